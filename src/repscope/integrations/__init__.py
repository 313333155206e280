"""Trainings shown by tools that others made; each is an extra."""
