"""How a job runs here: a real process in a bare environment and a folder that goes with it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from service.local.hub import keeper
from service.local.hub.hardware import Flavor

_GIGABYTE: Final = 1024**3
_LINE: Final = 64 * 1024
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def bare_environment(home: Path, job_id: str, flavor: Flavor) -> dict[str, str]:
    """Return what the Hub gives every job; nothing of this machine's environment is in it."""
    return {
        "PATH": f"{home / 'bin'}:{_PATH}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "JOB_ID": job_id,
        "ACCELERATOR": flavor.gpu or "",
        "CPU_CORES": str(flavor.cpus),
        "MEMORY": f"{flavor.ram_gb}Gi",
    }


@asynccontextmanager
async def job_folder() -> AsyncGenerator[Path]:
    """Make a job's home, with a `python` in it, since most images have one."""
    with TemporaryDirectory(prefix="holdfast-job-") as name:
        home = Path(name)
        (home / "bin").mkdir()
        for python in ("python", "python3"):
            (home / "bin" / python).symlink_to(getattr(sys, "_base_executable", sys.executable))
        yield home


async def run(
    command: list[str],
    environment: dict[str, str],
    home: Path,
    flavor: Flavor,
    write: Callable[[str], None],
) -> int:
    """Run a command to its end and return its exit code; cancelled, it leaves no process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        keeper.__file__,
        str(flavor.ram_gb * _GIGABYTE),
        "--",
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home,
        env=environment,
        limit=_LINE,
    )
    assert process.stdin is not None  # noqa: S101  # it was asked for
    assert process.stdout is not None  # noqa: S101  # as above
    try:
        await _copy(process.stdout, write)
        return await process.wait()
    finally:
        # Letting go of the pipe is what kills; see keeper.py.
        process.stdin.close()
        await asyncio.shield(process.wait())


async def _copy(stream: asyncio.StreamReader, write: Callable[[str], None]) -> None:
    rest = b""
    while chunk := await stream.read(_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            write(line.decode(errors="replace"))
        if len(rest) > _LINE:
            write(rest.decode(errors="replace"))
            rest = b""
    if rest:
        write(rest.decode(errors="replace"))
