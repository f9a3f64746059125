"""The command `python3 -m tests.interop.fast_agent`, which writes its line of docs/interop.md."""

import os
import shutil
import subprocess
import sys

from service.__main__ import enter_environment
from tests.interop import fast_agent

if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("fast-agent runs in a root of its own (chroot), and only root can enter one.")
    if shutil.which("debootstrap") is None:
        sys.exit("debootstrap makes that root, and is not installed: apt-get install debootstrap.")
    enter_environment(fast_agent.__name__)
    from tests.interop.interop_page import RECORD_VARIABLE

    # Named, it is collected; the whole suite passes it by.
    program = str(fast_agent.FOLDER / "fast_agent_program.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", program]
    sys.exit(
        subprocess.run(command, env=os.environ | {RECORD_VARIABLE: "1"}, check=False).returncode
    )
