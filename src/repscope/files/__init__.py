"""Files as they are: recognised, opened safely, written whole."""
