"""Checking hardware against the reference: test vectors, the verdict on a design's answers, HDL sources."""
