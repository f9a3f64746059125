"""A copy of the work tree in which a guard can be missing; the original is never touched."""

import compileall
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import pytest
from anyio.abc import Process

from tests.mutants.mutant import Mutant
from tests.support.paths import REPOSITORY

_PYTEST: Final = ("-m", "pytest", "-x", "-v", "-p", "no:randomly", "-n", "0", "--timeout", "60")
_MOST_SECONDS: Final = 300
"""Seconds that one test run may take."""
_SHUTDOWN_SECONDS: Final = 20
"""Seconds in which a test run that is cut off stops its servers."""
_FAILED_CODES: Final = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
_FAILED_TEST: Final = re.compile(
    r"^(?:(?:FAILED|ERROR) tests/|tests/(?=.* FAILED))(\S+?::\w+)", re.MULTILINE
)
"""In the summary, or where a run was cut off in the line of the test."""
_BROKEN_CODE: Final = re.compile(
    r"ERROR at setup of|\b(?:Postgres|Indentation)?SyntaxError\b|\b(?:Name|Import|Type)Error\b"
    r"|\b(?:Undefined|Ambiguous|Indeterminate)\w+Error\b"
)
"""What fails where the code is not without a guard, but no longer code."""


@dataclass(frozen=True, slots=True)
class PytestRun:
    """How a test run went."""

    exit_code: int
    output: str
    seconds: float

    @property
    def caught_by(self) -> str | None:
        """The test that noticed; none if none did, or only that nothing works any more."""
        if self.exit_code not in _FAILED_CODES or _BROKEN_CODE.search(self.output):
            return None
        failed = _FAILED_TEST.search(self.output)
        return failed[1] if failed else None

    @property
    def failure_reason(self) -> str:
        """Say why nothing was caught."""
        return (
            "survived"
            if self.exit_code == 0
            else f"cannot be judged: pytest ended with {self.exit_code}"
        )


class WorktreeCopy:
    """One copy, and one test run at a time in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scratch = folder / "tmp"

    async def run_without_guard(self, mutant: Mutant) -> PytestRun:
        """Test the code without a guard, and put the guard back."""
        path = self._folder / mutant.path
        source = path.read_text(encoding="utf-8")
        path.write_text(mutant.apply(source), encoding="utf-8")
        try:
            return await self.run_tests(mutant.tests)
        finally:
            path.write_text(source, encoding="utf-8")

    async def run_tests(self, tests: Sequence[str]) -> PytestRun:
        """Run some tests as they stand."""
        started = time.monotonic()
        # The compiled form of a file without its guard must not outlive it.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self._scratch)}
        async with await anyio.open_process(
            [sys.executable, *_PYTEST, *tests],
            cwd=self._folder,
            env=environment,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, who then stop it once
        ) as process:
            output = await _read_output(process)
        assert process.returncode is not None
        return PytestRun(process.returncode, output, time.monotonic() - started)


async def _read_output(process: Process) -> str:
    output = bytearray()

    async def read() -> None:
        assert process.stdout is not None
        async for chunk in process.stdout:
            output.extend(chunk)
        await process.wait()

    async def interrupt() -> None:
        process.send_signal(signal.SIGINT)
        with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
            await read()

    try:
        with anyio.move_on_after(_MOST_SECONDS) as limit:
            await read()
    except anyio.get_cancelled_exc_class():
        await interrupt()
        raise
    if limit.cancelled_caught:  # mostly a test that has failed and does not end
        await interrupt()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return output.decode(errors="replace")


@contextmanager
def copy_worktree(count: int) -> Generator[list[WorktreeCopy]]:
    """Copy what git tracks, as it stands in the work tree, once for each lane."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607  # whichever git there is
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    tracked = [name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]
    # A short name: the socket of a Postgres below it may have 107 characters.
    with TemporaryDirectory(prefix="hf-") as scratch:
        yield [_copy_files(tracked, Path(scratch, str(number))) for number in range(count)]


def _copy_files(tracked: list[str], folder: Path) -> WorktreeCopy:
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    (folder / "tmp").mkdir()
    # A compiled form is used while the hash of its source fits: only the mutant is compiled again.
    compileall.compile_dir(
        folder, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )
    return WorktreeCopy(folder)
