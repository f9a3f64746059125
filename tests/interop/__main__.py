"""The command `python3 -m tests.interop`: runs every client, and writes docs/interop.md."""

import os
import subprocess
import sys

from service.__main__ import enter_environment
from tests import interop
from tests.interop.interop_page import RECORD_VARIABLE

if __name__ == "__main__":
    enter_environment(interop.__name__)
    from tests.conformance import test_conformance
    from tests.interop import test_interop

    paths = [test_interop.__file__, test_conformance.__file__]
    command = [sys.executable, "-m", "pytest", "-n", "0", *paths]
    sys.exit(
        subprocess.run(command, env=os.environ | {RECORD_VARIABLE: "1"}, check=False).returncode
    )
