"""`python3 -m tests.crash`, from a fresh clone as well."""

import sys

from service.__main__ import enter

if __name__ == "__main__":
    enter("tests.crash")
    from tests.crash.cli import main

    sys.exit(main())
