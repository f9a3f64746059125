"""The command `python3 -m tests.crash`, which works in a fresh clone as well."""

import sys

from service.__main__ import enter_environment
from tests import crash

if __name__ == "__main__":
    enter_environment(crash.__name__)
    from tests.crash.cli import main

    sys.exit(main())
