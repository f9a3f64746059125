"""Commands as processes of their own."""

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

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


def run_for_result(
    command: list[str], *, timeout: timedelta, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a program to its end; return the JSON object that is the last line of its output.

    Args:
        environment: the whole environment of the process; None is that of this one.

    Raises:
        RuntimeError: it failed; the message has the end of what it wrote.
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout.total_seconds(),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed.\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


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
