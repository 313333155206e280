"""``python -m repscope`` is the command ``repscope``."""

import sys

from repscope.cli import main

if __name__ == "__main__":
    sys.exit(main())
