"""How a tensor is stored: schemes, scales, quantized tensors, error measures."""
