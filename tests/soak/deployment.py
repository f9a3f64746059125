"""A deployment of real processes: two services, three workers, Postgres, Valkey and a local Hub.

Each process can be stopped, killed, paused and started again, from this release or another one.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2

from service.local.environment import service_environment
from service.local.ports import find_free_port
from service.local.processes.child import Child
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.soak.users import SoakUser
from tests.support.paths import REPOSITORY

SERVICE_COUNT: Final = 2
WORKER_COUNT: Final = 3
METRICS_TOKEN: Final = "soak-metrics-token"
_START_TIMEOUT: Final = timedelta(seconds=90)
_PROBE_TIMEOUT_SECONDS: Final = 2.0
_SETTINGS: Final = {
    "HOLDFAST_LEASE": "10s",
    "HOLDFAST_POST_TIMEOUT": "5s",
    "HOLDFAST_SETTLE": "20s",
    "HOLDFAST_OBSERVE_MIN": "0.5s",
    "HOLDFAST_OBSERVE_MAX": "5s",
    "HOLDFAST_UNKNOWN": "relaunch",
    "HOLDFAST_CALLS_PER_MINUTE": "0",
    "HOLDFAST_OPEN_JOBS": "10000",
    "HOLDFAST_WAITS": "1000",
    "HOLDFAST_METRICS_TOKEN": METRICS_TOKEN,
    **dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"), "1"),
}
"""Leases and settle windows are short, so that a run of minutes sees what days would."""


class Program:
    """One process of ours, from the source folder of a release."""

    def __init__(
        self,
        name: str,
        environment: dict[str, str],
        *arguments: str,
        folder: Path,
        url: str | None = None,
        metrics_url: str | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self.metrics_url = metrics_url
        self.release = REPOSITORY
        self.is_meant_to_run = False
        """False while a disturbance has it down."""
        self._environment = environment
        self._arguments = arguments
        self._log = folder / f"{name}.log"
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None while it is down."""
        return self._child.pid if self._child else None

    @property
    def has_ended_by_itself(self) -> bool:
        """Whether it ended though nobody ended it."""
        return (
            self.is_meant_to_run and self._child is not None and self._child.exit_code is not None
        )

    def start(self) -> None:
        """Start it; on the thread whose end ends it."""
        command = [sys.executable, "-m", "service", *self._arguments]
        environment = self._environment | {"PYTHONPATH": _python_path(self.release)}
        self._child = Child(self.name, command, environment, self._log, folder=self.release)
        self._child.start()
        self.is_meant_to_run = True

    async def wait_until_ready(self) -> None:
        """Wait until a service answers that it is ready."""
        assert self._child is not None
        await asyncio.to_thread(self._child.wait_until, self._is_ready, _START_TIMEOUT)

    def kill(self) -> None:
        """End it as a lack of memory would."""
        self._send(signal.SIGKILL)

    async def stop(self) -> float:
        """Tell it to stop; return how many seconds it took."""
        self.is_meant_to_run = False
        child, self._child = self._child, None
        started_at = time.monotonic()
        if child is not None:
            await asyncio.to_thread(child.stop)
        return time.monotonic() - started_at

    def pause(self) -> None:
        """Let it hang."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        self.is_meant_to_run = False
        if self.pid is not None:
            os.kill(self.pid, number)
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _is_ready(self) -> bool:
        try:
            answer = httpx2.get(f"{self.url}/health/ready", timeout=_PROBE_TIMEOUT_SECONDS)
        except httpx2.TransportError:
            return False
        return answer.is_success


@dataclass(slots=True)
class Deployment:
    """Everything that runs, and how it is reached."""

    folder: Path
    postgres: Postgres
    valkey: Valkey
    database_url: str
    redis_url: str
    hub_url: str
    hub: Program
    services: list[Program]
    workers: list[Program]
    users: list[SoakUser]
    environment: dict[str, str]

    @property
    def steady_programs(self) -> list[Program]:
        """The processes that no disturbance ends: their memory is watched."""
        return [self.services[0], self.workers[0]]

    @property
    def programs(self) -> list[Program]:
        """All processes of ours."""
        return [*self.services, *self.workers]

    async def migrate(self, release: Path) -> None:
        """Bring the database to the newest revision of a release."""
        migration = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "migrate"),
            env=self.environment | {"PYTHONPATH": _python_path(release)},
            cwd=release,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await migration.communicate()
        assert migration.returncode == 0, output.decode()


@asynccontextmanager
async def run_deployment(folder: Path, users: list[SoakUser]) -> AsyncGenerator[Deployment]:
    """Run everything for the length of a block, in a folder of its own."""
    logs = folder / "logs"
    logs.mkdir()
    (folder / "hub").mkdir(mode=0o700)
    (folder / "hub" / "users.json").write_text(
        json.dumps([asdict(token) for user in users for token in user.tokens])
    )
    with ExitStack() as cleanup:
        postgres = Postgres(folder / "postgres", durable=True)
        valkey = Valkey(folder / "valkey", durable=True)
        cleanup.callback(postgres.stop)
        cleanup.callback(valkey.stop)
        database_url, redis_url = postgres.start(), valkey.start()
        hub_url = f"http://127.0.0.1:{find_free_port()}"
        ports = [find_free_port() for _ in range(SERVICE_COUNT + WORKER_COUNT)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        environment = service_environment(
            folder,
            os.environ | _SETTINGS,
            database_url=database_url,
            redis_url=redis_url,
            hub_url=hub_url,
            hub_is_local=True,
            public_url=urls[0],
        )
        hub_port = hub_url.rpartition(":")[2]
        hub = Program(
            "hub", environment, "hub", "--port", hub_port, "--data", str(folder), folder=logs
        )
        deployment = Deployment(
            folder=folder,
            postgres=postgres,
            valkey=valkey,
            database_url=database_url,
            redis_url=redis_url,
            hub_url=hub_url,
            hub=hub,
            services=list(_make_services(environment, urls[:SERVICE_COUNT], logs)),
            workers=list(_make_workers(environment, urls[SERVICE_COUNT:], logs)),
            users=users,
            environment=environment,
        )
        hub.start()
        await deployment.migrate(REPOSITORY)
        for program in deployment.programs:
            program.start()
        try:
            for service in deployment.services:
                await service.wait_until_ready()
            yield deployment
        finally:
            hub.resume()
            for program in (*deployment.programs, hub):
                await program.stop()


def _python_path(release: Path) -> str:
    return os.pathsep.join([str(release), *filter(None, [os.environ.get("PYTHONPATH")])])


def _make_services(environment: dict[str, str], urls: list[str], logs: Path) -> Iterator[Program]:
    for number, url in enumerate(urls, start=1):
        yield Program(
            f"service-{number}",
            environment | {"HOLDFAST_PUBLIC_URL": url},
            *("serve", "--port", url.rpartition(":")[2]),
            folder=logs,
            url=url,
            metrics_url=f"{url}/metrics",
        )


def _make_workers(environment: dict[str, str], urls: list[str], logs: Path) -> Iterator[Program]:
    for number, url in enumerate(urls, start=1):
        yield Program(
            f"worker-{number}",
            environment | {"HOLDFAST_WORKER_METRICS_PORT": url.rpartition(":")[2]},
            "worker",
            folder=logs,
            metrics_url=f"{url}/metrics",
        )
