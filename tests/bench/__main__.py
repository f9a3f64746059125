"""The command `python3 -m tests.bench`, which works in a fresh clone as well."""

import sys

from service.__main__ import enter_environment
from tests import bench

if __name__ == "__main__":
    enter_environment(bench.__name__)
    from tests.bench.cli import main

    sys.exit(main())
