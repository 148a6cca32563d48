"""Every numba function. Kernels see arrays and integers, never objects; one that calls another lives in its file."""
