"""Rounding as a value, rounding modes as thresholds, and encoding and decoding with them."""
