"""How processes of tests run, and what they do not collect: doctests that need PyTorch, files of fixtures."""

import gc
import os
from importlib.util import find_spec

if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers the threads of a matrix product only wait for each other
    os.environ |= {name: os.environ.get(name, "1") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}

# Thousands of tests leave many objects behind, and few are garbage: looked through a tenth as often.
gc.set_threshold(7000, 10, 10)

ADAPTERS = ["ggd/torch.py", "ggd/arrays.py", "rf8sim/torch/*"]
collect_ignore_glob = ["*/conftest.py", *([] if find_spec("torch") else ADAPTERS)]
