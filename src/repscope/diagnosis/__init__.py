"""Measurements to findings: one file per failure."""
