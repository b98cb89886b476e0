"""`python -m fastcifar.bench.suite`."""

import sys

from fastcifar.bench.suite.command import main

if __name__ == "__main__":
    sys.exit(main())
