"""Lengths of entropy codes, and the coders."""
