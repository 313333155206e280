"""Features as a value: stores on disk, representations, mergeable moments."""
