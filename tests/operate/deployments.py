"""Services and workers as processes of their own, on the servers of a test."""

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2

from service.local.ports import find_free_port
from tests.support.http_clients import AsyncHttpClient
from tests.support.paths import REPOSITORY
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.programs import run_program

PATIENCE: Final = timedelta(seconds=120)
"""For what a process does within seconds, while several of them start on a busy machine."""


@dataclass
class Deployment:
    """Processes of one or several releases."""

    environment: dict[str, str]
    logs: Path
    processes: ExitStack
    """Ends them."""

    def start_worker(
        self, name: str = "worker", *, release: Path = REPOSITORY
    ) -> "subprocess.Popen[bytes]":
        """Start a worker."""
        return self.processes.enter_context(
            run_program(
                *("service", "worker"),
                environment=self.environment,
                log=self.logs / f"{name}.log",
                folder=release,
            )
        )

    async def start_service(
        self, name: str = "service", *, release: Path = REPOSITORY, host: str = "127.0.0.1"
    ) -> str:
        """Start a service, and return its URL when it is ready."""
        port = find_free_port()
        self.processes.enter_context(
            run_program(
                *("service", "serve", "--host", host, "--port", str(port)),
                environment=self.environment,
                log=self.logs / f"{name}.log",
                folder=release,
            )
        )
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await eventually(
            lambda: read_health(url), lambda health: health[0] == 200, timeout=PATIENCE
        )
        return url

    def run(self, *command: str, release: Path = REPOSITORY) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "service", *command],
            cwd=release,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE.total_seconds(),
            check=False,
        )

    def read_log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.logs / f"{name}.log").read_text(encoding="utf-8")


async def read_health(url: str) -> tuple[int, str]:
    """Return the status and the text of the readiness page; 0 if there is none."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        try:
            answer = await http.get(f"{url}/health/ready")
        except httpx2.TransportError as error:
            return 0, str(error)
    return answer.status_code, answer.text
