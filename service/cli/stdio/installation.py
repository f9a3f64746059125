"""What a client starts to run this very installation."""

import sys
from pathlib import Path
from typing import Final

from service.cli.options import COMMAND
from service.web.client_config import Program

_PROJECT_ROOT: Final = Path(__file__).resolve().parents[3]


def find_program() -> Program:
    """Return the program of this installation, wherever a client starts it."""
    started = Path(sys.argv[0])
    if started.name == COMMAND:
        return Program((str(started.absolute()),))
    # In a clone there is no such program, and a client has a folder of its own.
    return Program((sys.executable, "-m", "service"), {"PYTHONPATH": str(_PROJECT_ROOT)})
