"""Our commands as processes of their own, for the length of a block."""

import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.paths import REPOSITORY

_STOP_SECONDS = 15
"""How long a process may take to stop before it is killed."""


@contextmanager
def run_program(
    *command: str,
    environment: Mapping[str, str],
    log: Path | None = None,
    folder: Path = REPOSITORY,
) -> Generator["subprocess.Popen[bytes]"]:
    """Run `python3 -m COMMAND`; after the block it is told to stop, and killed if it does not.

    Args:
        environment: the whole environment of the process.
        log: a file to append the output to. None discards it.
        folder: where the source of the command is.
    """
    process = _start(command, environment, log, folder)
    try:
        yield process
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STOP_SECONDS)
    finally:
        process.kill()
        process.wait()


def _start(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path | None, folder: Path
) -> "subprocess.Popen[bytes]":
    with (log or Path("/dev/null")).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
