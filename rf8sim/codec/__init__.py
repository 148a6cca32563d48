"""Rounding modes as thresholds, and encoding and decoding with them."""
