"""`python3 -m tests.interop`: run every client and the conformance suite; write docs/interop.md."""

import os
import subprocess
import sys

from service.__main__ import enter
from tests.interop.interop_page import RECORD_VARIABLE

_TESTS = ("tests/interop/test_interop.py", "tests/conformance/test_conformance.py")

if __name__ == "__main__":
    enter("tests.interop")
    command = [sys.executable, "-m", "pytest", "-n", "0", *_TESTS]
    sys.exit(
        subprocess.run(command, env=os.environ | {RECORD_VARIABLE: "1"}, check=False).returncode
    )
