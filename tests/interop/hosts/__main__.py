"""The command `python3 -m tests.interop.hosts`: installs the programs, and runs each."""

import subprocess
import sys

from service.__main__ import enter_environment
from tests.interop import hosts

if __name__ == "__main__":
    enter_environment(hosts.__name__)
    # Named, it is collected; the whole suite passes it by.
    command = [sys.executable, "-m", "pytest", "-n", "0", str(hosts.FOLDER / "host_programs.py")]
    sys.exit(subprocess.run(command, check=False).returncode)
