"""A local Hub as a process of its own, and the real client library pointed at it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from huggingface_hub import HfApi, JobInfo, constants

from service.local.hub_emulator.users import (
    LocalTokenKind,
    LocalUser,
    Permission,
    find_user,
    load_users,
)
from service.local.ports import find_free_port
from tests.support.paths import REPOSITORY

# The library asks the real Hub about agents otherwise; its variable is read on import, too early.
constants.HF_HUB_DISABLE_TELEMETRY = True

_SERVE_SCRIPT = """
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
import anyio
from service.local.hub_emulator.app import serve_hub_emulator
folder, port, quota = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
scheduling = timedelta(seconds=float(sys.argv[4]))
flush = timedelta(seconds=float(sys.argv[5]))
delays = {"scheduling_delay": scheduling, "flush_delay": flush}
anyio.run(partial(serve_hub_emulator, folder, port=port, quota=quota, **delays))
"""


@dataclass(frozen=True, slots=True)
class HubEmulatorProcess:
    """A Hub that answers, and who may call it."""

    url: str
    users: list[LocalUser]
    process: "subprocess.Popen[bytes]"

    def api(self, name: str = "alice", kind: LocalTokenKind = LocalTokenKind.WRITE) -> HfApi:
        """Return the real client, signed in as a user."""
        return HfApi(endpoint=self.url, token=find_user(self.users, name, kind).token)

    @contextmanager
    def open_client(
        self, name: str = "alice", kind: LocalTokenKind = LocalTokenKind.WRITE
    ) -> Generator[httpx2.Client]:
        """Open a plain client, signed in as a user, for what the real one never sends."""
        with self.open_client_as(find_user(self.users, name, kind).token) as client:
            yield client

    @contextmanager
    def open_client_as(self, token: str) -> Generator[httpx2.Client]:
        """Open a plain client that shows a token."""
        headers = {"authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=15) as client:
            yield client

    def fine_grained_token(self, permission: Permission) -> str:
        """Return a token of Alice's that is for one thing."""
        return next(user.token for user in self.users if user.permissions == [permission])


@contextmanager
def run_hub_emulator(
    folder: Path,
    *,
    quota: int = 100_000,
    scheduling_seconds: float = 0.3,
    flush_seconds: float = 0.3,
    port: int | None = None,
) -> Generator[HubEmulatorProcess]:
    """Run a Hub in a process of its own for the length of a block."""
    port = port or find_free_port()
    # Before the Hub asks for them: two who make them at once would make two sets.
    users = load_users(folder)
    given = [str(each) for each in (folder, port, quota, scheduling_seconds, flush_seconds)]
    script = [sys.executable, "-c", _SERVE_SCRIPT, *given]
    process = subprocess.Popen(
        script, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    hub = HubEmulatorProcess(f"http://127.0.0.1:{port}", users, process)
    try:
        wait_until(lambda: _is_answering(hub))
        yield hub
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """The Hub of all tests that leave it as it was."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def alice(hub: HubEmulatorProcess) -> HfApi:
    """The client of a user who may act and pay."""
    return hub.api()


@pytest.fixture
async def http(hub: HubEmulatorProcess) -> AsyncGenerator[httpx2.AsyncClient]:
    """A plain client that shows no token."""
    async with httpx2.AsyncClient(base_url=hub.url, timeout=15) as client:
        yield client


def wait_until(predicate: Callable[[], bool], *, timeout_seconds: float = 15) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + timeout_seconds
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail("it never held")
        time.sleep(0.05)  # between two looks at what another process does


def wait_until_over(api: HfApi, job: JobInfo) -> JobInfo:
    """Wait for a job to be over and return its last description."""
    seen = [job]

    def is_over() -> bool:
        seen.append(api.inspect_job(job_id=job.id, namespace=job.owner.name))
        return seen[-1].status.stage in {"COMPLETED", "ERROR", "CANCELED"}

    wait_until(is_over)
    return seen[-1]


def read_log_lines(api: HfApi, job: JobInfo) -> list[str]:
    """Return what a job that is over has written."""
    return list(api.fetch_job_logs(job_id=job.id, namespace=job.owner.name))


def stream_job_events(
    hub: HubEmulatorProcess, job: JobInfo, path: str = "logs"
) -> Generator[dict[str, Any]]:
    """Yield what is streamed about one of Alice's jobs, as it comes."""
    with (
        hub.open_client() as client,
        client.stream("GET", f"/api/jobs/{job.owner.name}/{job.id}/{path}") as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def _is_answering(hub: HubEmulatorProcess) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{hub.url}/api/agent-harnesses").is_success
    # Fails at once, and not after the whole wait.
    assert psutil.pid_exists(hub.process.pid)
    assert hub.process.poll() is None
    return False
