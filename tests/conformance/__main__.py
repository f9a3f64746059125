"""The command `python3 -m tests.conformance`, which works in a fresh clone as well."""

import sys

from service.__main__ import enter_environment
from tests import conformance

if __name__ == "__main__":
    enter_environment(conformance.__name__)
    from tests.conformance.cli import main

    sys.exit(main())
