"""The doctests of the PyTorch adapters are collected where PyTorch is."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["ggd/torch.py", "rf8sim/torch/*"]
