"""The command `python3 -m tests.soak`, which works in a fresh clone as well."""

import sys

from service.__main__ import enter_environment
from tests import soak

if __name__ == "__main__":
    enter_environment(soak.__name__)
    from tests.soak.cli import main

    sys.exit(main())
