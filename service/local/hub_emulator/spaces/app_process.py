"""How does the Gradio app behind the local Spaces come up when it is asked for, and end with us?"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog

from service.local.environment import child_environment

_APP_PATH: Final = Path(__file__).with_name("demo_app.py")

log = structlog.stdlib.get_logger()


class SpaceAppProcess:
    """Sleeps until it is woken; `stage` is in the Hub's words."""

    def __init__(self) -> None:
        self.stage = "SLEEPING"
        self.url = ""
        """Where it answers, once it is running."""
        self._process: Process | None = None
        self._start_task: asyncio.Task[None] | None = None

    @staticmethod
    def is_gradio_installed() -> bool:
        """Whether Gradio is installed on this machine."""
        return find_spec("gradio") is not None

    def wake(self) -> None:
        """Start it, unless somebody has."""
        if self._start_task is None:
            self.stage = "APP_STARTING"
            self._start_task = asyncio.create_task(self._start())

    async def close(self) -> None:
        """End it."""
        if self._start_task is not None:
            self._start_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._start_task
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _start(self) -> None:
        with TemporaryDirectory(prefix="holdfast-space-", ignore_cleanup_errors=True) as home:
            given = child_environment(Path(home), os.environ)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_APP_PATH),
                # Held open for as long as we live: closed, it ends itself.
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd=home,
                env=given | {"HOME": home, "TMPDIR": home, "GRADIO_ANALYTICS_ENABLED": "False"},
                start_new_session=True,
            )
            assert self._process.stdout is not None  # noqa: S101  # it was asked for
            port = await self._process.stdout.readline()
            if port.strip().isdigit():
                self.url = f"http://127.0.0.1:{int(port)}"
                self.stage = "RUNNING"
                log.info("space.started", url=self.url)
            await self._process.wait()
            self.stage = "RUNTIME_ERROR"
