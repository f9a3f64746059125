"""The Hub emulator as a process of its own, and the real client library pointed at it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
from huggingface_hub import HfApi, JobInfo, constants

from service.local.hub_emulator.shared.clock import AHEAD_VARIABLE
from service.local.hub_emulator.users import (
    LocalTokenKind,
    LocalUser,
    Permission,
    find_user,
    load_users,
)
from service.local.ports import find_free_port
from tests.support.http_clients import HttpClient, get_once
from tests.support.hub import emulator_program
from tests.support.paths import REPOSITORY
from tests.support.polling import HTTP_TIMEOUT_SECONDS, wait_until

# The library asks the real Hub about agents otherwise; its variable is read on import, too early.
constants.HF_HUB_DISABLE_TELEMETRY = True

JOB_REQUEST: Final = {"dockerImage": "python:3.12", "command": ["true"], "flavor": "cpu-basic"}
"""The body of the smallest job."""


@dataclass(frozen=True, slots=True)
class HubEmulatorProcess:
    """A Hub emulator that answers, and the users who may call it."""

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
        """Open a plain client that sends a token."""
        headers = {"authorization": f"Bearer {token}"}
        with HttpClient(base_url=self.url, headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as client:
            yield client

    def fine_grained_token(self, permission: Permission) -> str:
        """Return a token of Alice's that has one permission."""
        return next(user.token for user in self.users if user.permissions == [permission])


@contextmanager
def run_hub_emulator(
    folder: Path,
    *,
    quota: int = 100_000,
    scheduling_seconds: float = 0.3,
    flush_seconds: float = 0.3,
    port: int | None = None,
    ahead: timedelta = timedelta(0),
) -> Generator[HubEmulatorProcess]:
    """Run a Hub emulator in a process of its own for the length of a block.

    Args:
        ahead: how far its clock is ahead of ours; negative: behind it.
    """
    port = port or find_free_port()
    # The users are made before the emulator starts: two processes would make two sets of them.
    users = load_users(folder)
    arguments = (folder, port, quota, scheduling_seconds, flush_seconds)
    process = subprocess.Popen(
        [sys.executable, "-m", emulator_program.__name__, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {AHEAD_VARIABLE: str(ahead.total_seconds())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    hub = HubEmulatorProcess(f"http://127.0.0.1:{port}", users, process)
    try:
        wait_until(lambda: _is_answering(hub))
        yield hub
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)


def wait_until_over(api: HfApi, job: JobInfo) -> JobInfo:
    """Wait for a job to be over and return its last description."""
    latest = [job]

    def is_over() -> bool:
        latest.append(api.inspect_job(job_id=job.id, namespace=job.owner.name))
        return latest[-1].status.stage in {"COMPLETED", "ERROR", "CANCELED"}

    wait_until(is_over)
    return latest[-1]


def read_log_lines(api: HfApi, job: JobInfo) -> list[str]:
    """Return the log of a job that is over."""
    return list(api.fetch_job_logs(job_id=job.id, namespace=job.owner.name))


def stream_job_events(
    hub: HubEmulatorProcess, job: JobInfo, path: str = "logs"
) -> Generator[dict[str, Any]]:
    """Yield the events of one of Alice's jobs as they come."""
    with (
        hub.open_client() as client,
        client.stream("GET", f"/api/jobs/{job.owner.name}/{job.id}/{path}") as answer,
    ):
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def run_command(api: HfApi, *command: str, **options: Any) -> JobInfo:
    """Run a command as Alice."""
    return api.run_job(image="python:3.12", command=list(command), namespace="alice", **options)


def read_sizes(api: HfApi, bucket: str, prefix: str | None = None) -> dict[str, int | None]:
    """Return the size of each file in a bucket, by its path; a folder has none."""
    tree = api.list_bucket_tree(bucket, prefix, recursive=True)
    return {entry.path: getattr(entry, "size", None) for entry in tree}


def _is_answering(hub: HubEmulatorProcess) -> bool:
    with suppress(httpx2.TransportError):
        return get_once(f"{hub.url}/api/agent-harnesses").is_success
    # A process that has ended fails the test at once, not after the whole wait.
    assert psutil.pid_exists(hub.process.pid)
    assert hub.process.poll() is None
    return False
