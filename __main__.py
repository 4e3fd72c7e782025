"""`python -m xpeng_world` is the command `xpeng-world`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
