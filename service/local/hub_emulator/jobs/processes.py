"""How a job runs here: a real process in a bare environment, with somebody to end it."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from typing import Final

from service.local.hub_emulator.jobs import supervisor
from service.local.hub_emulator.jobs.hardware import LocalFlavor

_BYTES_PER_GIB: Final = 1024**3
_MAX_LINE_BYTES: Final = 64 * 1024
_NOT_EXECUTABLE_EXIT_CODE: Final = 126
_SIGNAL_EXIT_CODE_BASE: Final = 128


def job_environment(job_id: str, flavor: LocalFlavor) -> dict[str, str]:
    """Return what the Hub gives every job; nothing of this machine's environment is in it."""
    return {
        "LANG": "C.UTF-8",
        "JOB_ID": job_id,
        "ACCELERATOR": flavor.accelerator.model if flavor.accelerator else "",
        "CPU_CORES": str(flavor.cpus),
        "MEMORY": f"{flavor.ram_gb}Gi",
    }


async def run_command(
    command: list[str],
    environment: dict[str, str],
    flavor: LocalFlavor,
    write_line: Callable[[str], None],
) -> int:
    """Run a command to its end and return its exit code; cancelled, it leaves no process."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-I",
                "-S",
                supervisor.__file__,
                str(_memory_limit_bytes(flavor)),
                "--",
                *command,
            ),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=environment,
            limit=_MAX_LINE_BYTES,
            # A Ctrl-C in the Hub's terminal is not for the keeper, who has work to do then.
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # too long, or with a NUL in it
        write_line(f"exec: {error}")
        return _NOT_EXECUTABLE_EXIT_CODE
    assert process.stdin is not None  # noqa: S101  # it was asked for
    assert process.stdout is not None  # noqa: S101  # as above
    try:
        await _copy_lines(process.stdout, write_line)
        code = await process.wait()
    finally:
        # Letting go of the pipe is what kills; see keeper.py.
        process.stdin.close()
        await asyncio.shield(_drain_and_wait(process, process.stdout))
    return code if code >= 0 else _SIGNAL_EXIT_CODE_BASE - code


def _memory_limit_bytes(flavor: LocalFlavor) -> int:
    """Return how many bytes a job may write to: never more than this machine has."""
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(flavor.ram_gb * _BYTES_PER_GIB, here)


async def _drain_and_wait(process: Process, output: asyncio.StreamReader) -> None:
    # A process counts as ended when its output is read to the end, and a full one is paused.
    while await output.read(_MAX_LINE_BYTES):
        pass
    await process.wait()


async def _copy_lines(stream: asyncio.StreamReader, write_line: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(_MAX_LINE_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            write_line(line.decode(errors="replace"))
        if len(rest) > _MAX_LINE_BYTES:
            write_line(rest.decode(errors="replace"))
            rest = b""
    if rest:
        write_line(rest.decode(errors="replace"))
