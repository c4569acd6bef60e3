"""`python -m counterfoil`: the command line."""

import sys

from counterfoil.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
