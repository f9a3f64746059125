"""A process ends within its grace even if it cannot end by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from schema.common.observability import log_config
from schema.common.process import shutdown
from tests.support.paths import REPOSITORY

GRACE_SECONDS: Final = 1.5
SCRIPT: Final = f"""
import asyncio, re
from datetime import timedelta
from {log_config.__name__} import configure_logging
from {shutdown.__name__} import end_within

async def keep_on():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def main():
    configure_logging()
    end_within(timedelta(seconds={GRACE_SECONDS}))
    task = asyncio.create_task(keep_on())
    await asyncio.sleep(0)
    print("told to stop", flush=True)
    {{rest}}

asyncio.run(main())
"""


def test_a_task_that_loses_every_cancel_is_named_and_cut_off(tmp_path: Path) -> None:
    """asyncio itself would wait for it without end, and an operator could not say for what."""
    exit_code, errors, seconds = run_script("return", tmp_path)

    assert exit_code == 1
    assert "process.overdue" in errors
    assert "keep_on" in errors
    assert seconds < GRACE_SECONDS


def test_a_thread_that_keeps_the_interpreter_does_not_keep_the_process(tmp_path: Path) -> None:
    """No Python runs then, so only the kernel can end it."""
    exit_code, _, seconds = run_script('re.match("(a|a)+$", "a" * 40 + "b")', tmp_path)

    assert exit_code == -signal.SIGALRM
    assert seconds < GRACE_SECONDS


def run_script(rest: str, folder: Path) -> tuple[int, str, float]:
    """Run the script; return its exit code, what it wrote of errors, and its seconds to the end."""
    with (folder / "errors").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(rest=rest)],
            cwd=REPOSITORY,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            started = time.monotonic()
            process.communicate(timeout=30)
            seconds = time.monotonic() - started
        finally:
            process.kill()
        errors.seek(0)
        return process.returncode, errors.read(), seconds
