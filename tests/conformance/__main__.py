"""`python3 -m tests.conformance`, from a fresh clone as well."""

import sys

from service.__main__ import enter

if __name__ == "__main__":
    enter("tests.conformance")
    from tests.conformance.cli import main

    sys.exit(main())
