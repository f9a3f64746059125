"""Jobs as real processes: a bare environment, and a supervisor that ends them."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from typing import Final

from service.local.hub_emulator.jobs import supervisor
from service.local.hub_emulator.jobs.hardware import LocalFlavor

_MAX_LINE_BYTES: Final = 64 * 1024


def job_environment(job_id: str, flavor: LocalFlavor) -> dict[str, str]:
    """Return the variables that the Hub gives every job; none come from this machine."""
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
    """Run a command and return its exit code; a cancelled call leaves no process behind."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-I",
                "-S",
                supervisor.__file__,
                str(_memory_limit_bytes(flavor)),
                tempfile.gettempdir(),
                "--",
                *command,
            ),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            env=environment,
            limit=_MAX_LINE_BYTES,
            # Ctrl-C in the Hub's terminal must not end the supervisor: it has to clean up.
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # the command is too long, or has a NUL in it
        write_line(f"exec: {error}")
        return supervisor.NOT_EXECUTABLE_EXIT_CODE
    assert process.stdin is not None  # noqa: S101  # stdin=PIPE
    assert process.stdout is not None  # noqa: S101  # stdout=PIPE
    try:
        await _copy_lines(process.stdout, write_line)
        code = await process.wait()
    finally:
        # The supervisor kills the job when this pipe is closed.
        process.stdin.close()
        await asyncio.shield(_drain_and_wait(process, process.stdout))
    return code if code >= 0 else supervisor.SIGNAL_EXIT_CODE_BASE - code


def _memory_limit_bytes(flavor: LocalFlavor) -> int:
    """Return the memory of a job: that of its flavor, at most that of this machine."""
    physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(flavor.ram_bytes, physical_bytes)


async def _drain_and_wait(process: Process, output: asyncio.StreamReader) -> None:
    # asyncio reports the end of a process only after its output is read, and pauses a full pipe.
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
