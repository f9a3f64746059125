"""`python3 -m tests.conformance`, from a fresh clone as well."""

import sys

from service.__main__ import enter
from tests import conformance

if __name__ == "__main__":
    enter(conformance.__name__)
    from tests.conformance.cli import main

    sys.exit(main())
