"""Representation to measurements: every number, with its formula and its limits."""
