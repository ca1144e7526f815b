"""Entry point of ``python -m quality``."""

import sys

from quality.cli import main

if __name__ == "__main__":
    sys.exit(main())
