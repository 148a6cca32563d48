"""Weights that other tools quantized: recognized, and read as the numbers they stand for."""
