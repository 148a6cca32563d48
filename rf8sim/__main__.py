"""``python -m rf8sim``, the same as the command ``rf8sim``."""

import contextlib
import sys

from .cli import main

if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
