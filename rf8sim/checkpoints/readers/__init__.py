"""Readers of checkpoints, one file for each container: each lists the tensors of a file as `TensorInfo`."""
