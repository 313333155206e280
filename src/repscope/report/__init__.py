"""Records to one self-contained page."""
