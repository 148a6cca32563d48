"""Reading checkpoints, and writing and checking quantized ones."""
