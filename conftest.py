"""What is not collected: the doctests with PyTorch where PyTorch is not, and files of fixtures as tests."""

from importlib.util import find_spec

ADAPTERS = ["ggd/torch.py", "ggd/arrays.py", "rf8sim/torch/*"]
collect_ignore_glob = ["*/conftest.py", *([] if find_spec("torch") else ADAPTERS)]
