"""Sections of a report, as data."""
