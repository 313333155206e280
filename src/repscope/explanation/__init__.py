"""Why this representation: maps and other pictures as records."""
