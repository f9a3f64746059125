"""The process of the Gradio app behind the emulated Spaces: started on demand, ended with us."""

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
    """The app process; `stage` is SLEEPING until the first call of `wake`, in the Hub's words."""

    def __init__(self) -> None:
        self.stage = "SLEEPING"
        self.url = ""
        """The URL of the app once it runs; empty before."""
        self._process: Process | None = None
        self._start_task: asyncio.Task[None] | None = None

    @staticmethod
    def is_gradio_installed() -> bool:
        """Whether Gradio is installed on this machine."""
        return find_spec("gradio") is not None

    def wake(self) -> None:
        """Start the app, unless it has been started before."""
        if self._start_task is None:
            self.stage = "APP_STARTING"
            self._start_task = asyncio.create_task(self._start())

    async def close(self) -> None:
        """End the app."""
        if self._start_task is not None:
            self._start_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._start_task
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _start(self) -> None:
        with TemporaryDirectory(prefix="holdfast-space-", ignore_cleanup_errors=True) as home:
            environment = child_environment(Path(home), os.environ)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_APP_PATH),
                # Open for as long as we live: the app ends itself when it is closed.
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd=home,
                env=environment
                | {"HOME": home, "TMPDIR": home, "GRADIO_ANALYTICS_ENABLED": "False"},
                start_new_session=True,
            )
            assert self._process.stdout is not None  # noqa: S101  # stdout=PIPE
            port = await self._process.stdout.readline()
            if port.strip().isdigit():
                self.url = f"http://127.0.0.1:{int(port)}"
                self.stage = "RUNNING"
                log.info("space.started", url=self.url)
            await self._process.wait()
            self.stage = "RUNTIME_ERROR"
