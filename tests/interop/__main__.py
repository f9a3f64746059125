"""The command `python3 -m tests.interop [--seeds]`, which writes docs/interop.md.

It runs every client; with `--seeds`, instead, the systems that Holdfast is compared with.
"""

import os
import subprocess
import sys

from service.__main__ import enter_environment
from tests import interop
from tests.interop.interop_page import RECORD_VARIABLE

if __name__ == "__main__":
    enter_environment(interop.__name__)
    from tests.conformance import test_conformance
    from tests.interop import seeds, test_interop

    paths = [test_interop.__file__, test_conformance.__file__]
    if sys.argv[1:] == ["--seeds"]:
        paths = seeds.__path__
    command = [sys.executable, "-m", "pytest", "-n", "0", *paths]
    sys.exit(
        subprocess.run(command, env=os.environ | {RECORD_VARIABLE: "1"}, check=False).returncode
    )
