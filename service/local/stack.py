"""The supervisor of the local stack: it starts everything on one machine, and stops all of it.

    lock ─┬─▶ Valkey ─▶ Postgres ─▶ migrations ─┬─▶ service + worker
          └─▶ Hub ──────────────────────────────┘

Each needs what is left of it. Service and worker stop first, then the servers; of either, all stop
at the same time.
Servers that the environment names (`HOLDFAST_DATABASE_URL`, `HOLDFAST_REDIS_URL`) are used and not
started.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import service
from schema.common.http import DEFAULT_PORT, LOOPBACK, open_listener
from schema.db import revisions
from service.local.data_dir import lock_data_dir
from service.local.environment import child_environment, service_environment
from service.local.last_start import LastStart
from service.local.ports import begin_on_stable_port, start_on_stable_port
from service.local.processes.child import Child, Stoppable, stop_side_by_side
from service.local.processes.restart import RestartableServer, ServerRestarter
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey

_ROOT: Final = Path(service.__file__).resolve().parent.parent
_START_TIMEOUT: Final = timedelta(seconds=60)
_PROBE_TIMEOUT: Final = timedelta(seconds=2)
_RESTART_CHECK_INTERVAL: Final = timedelta(milliseconds=100)


class Stack:
    """The local stack on one data folder, which runs inside a `with` block.

    Enter the block on the main thread: Linux ends the children when the thread that has started
    them ends.
    """

    database_url: str
    redis_url: str
    hub_url: str
    url: str
    environment: dict[str, str]
    """The environment of the service and the worker; enough to start more of them."""
    _worker: Child

    def __init__(
        self,
        folder: Path,
        *,
        report: Callable[[str], None],
        port: int | None = None,
        hub_url: str | None = None,
        durable: bool = True,
        uninherited: Collection[str] = (),
    ) -> None:
        """Prepare a stack.

        Args:
            folder: its data folder.
            report: is told what starts and ends.
            port: that of the service; None is the one of the last time, or a free one.
            hub_url: the Hub of its jobs; None starts a local one.
            durable: whether it keeps what it has when the machine loses power; only tests do not.
            uninherited: variables of this process that its children do not get.
        """
        self._environ = {k: v for k, v in os.environ.items() if k not in uninherited}
        self.folder = folder.resolve()
        self._report = report
        self._port = port
        self._external_hub_url = hub_url
        self._durable = durable
        self._servers: list[RestartableServer] = []

    def __enter__(self) -> Self:
        if self._port is not None:
            open_listener(LOOPBACK, self._port).close()
        with ExitStack() as cleanup:
            cleanup.enter_context(lock_data_dir(self.folder))
            cleanup.enter_context(_termination_as_interrupt())
            (self.folder / "logs").mkdir(exist_ok=True)
            started: list[Stoppable] = []
            cleanup.callback(stop_side_by_side, started)
            wait_for_hub = self._begin_hub(started)
            valkey = Valkey(self.folder / "valkey", durable=self._durable)
            postgres = Postgres(self.folder / "postgres", durable=self._durable)
            self.redis_url = self._find_or_start(started, "REDIS_URL", valkey)
            self.database_url = self._find_or_start(started, "DATABASE_URL", postgres)
            self.hub_url = wait_for_hub()
            self._start_service(cleanup)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._report("Stopping.")
        self._cleanup.close()

    def run_until_interrupted(self) -> None:
        """Keep everything running until SIGINT or SIGTERM; restart what ends by itself."""
        restarters = [ServerRestarter(server, self._report) for server in self._servers]
        with suppress(KeyboardInterrupt):
            while True:
                for restarter in restarters:
                    restarter.restart_if_ended()
                time.sleep(_RESTART_CHECK_INTERVAL.total_seconds())

    def stop_worker(self) -> None:
        """Stop the worker, as a deployment does between two versions."""
        self._worker.stop()

    def start_worker(self) -> None:
        """Start the worker that was stopped."""
        self._worker.start()

    def _find_or_start(
        self, started: list[Stoppable], variable: str, server: Postgres | Valkey
    ) -> str:
        if external_url := os.environ.get(f"HOLDFAST_{variable}") or os.environ.get(variable):
            self._report(f"Using the {server.name} that {variable} names.")
            return external_url
        self._report(f"Starting {server.name}.")
        started.append(server)
        url = server.start()
        self._servers.append(server)
        return url

    def _begin_hub(self, started: list[Stoppable]) -> Callable[[], str]:
        """Begin to start the Hub; return what waits until it answers, and returns its URL."""
        if (external_url := self._external_hub_url) is not None:
            return lambda: external_url

        def begin(port: int) -> Callable[[], None]:
            command = ("hub", "--port", str(port), "--data", str(self.folder))
            hub = self._create_child("hub", child_environment(self.folder, self._environ), *command)
            started.append(hub)
            hub.start()

            def wait() -> None:
                hub.wait_until(lambda: _accepts_connections(port), timeout=_START_TIMEOUT)
                self._servers.append(hub)

            return wait

        self._report("Starting the local Hub.")
        finish = begin_on_stable_port(self.folder / "hub.port", begin)
        return lambda: f"http://127.0.0.1:{finish()}"

    def _start_service(self, cleanup: ExitStack) -> None:
        def start(port: int) -> None:
            self.url = f"http://127.0.0.1:{port}"
            self.environment = service_environment(
                self.folder,
                self._environ,
                database_url=self.database_url,
                redis_url=self.redis_url,
                hub_url=self.hub_url,
                hub_is_local=self._external_hub_url is None,
                public_url=self.url,
            )
            self._report("Bringing the database up to date.")
            if not _is_up_to_date(self.database_url):
                migrate = self._create_child("migrate", self.environment, "migrate")
                migrate.run(timeout=_START_TIMEOUT)
            self._report(f"Starting the service on {self.url} and a worker.")
            server = self._create_child("service", self.environment, "serve", "--port", str(port))
            # Not by the command line, which would be imported only to become it.
            self._worker = self._create_child("worker", self.environment, module="workers")
            with ExitStack() as children:
                children.callback(stop_side_by_side, [server, self._worker])
                # Both before the wait: a service may not be ready before it has a worker.
                server.start()
                self._worker.start()
                server.wait_until(lambda: _is_ready(port, server.pid), timeout=_START_TIMEOUT)
                cleanup.push(children.pop_all())
            self._servers += [server, self._worker]

        if self._port is None:
            start_on_stable_port(self.folder / "service.port", start, preferred=DEFAULT_PORT)
        else:
            start(self._port)
        servers = {
            name: self.environment[name]
            for name in ("HOLDFAST_DATABASE_URL", "HOLDFAST_REDIS_URL", "HOLDFAST_HUB_URL")
        }
        LastStart(self.url, self._external_hub_url, servers).save(self.folder)

    def _create_child(
        self, name: str, environment: dict[str, str], *arguments: str, module: str = "service"
    ) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        log = self.folder / "logs" / f"{name}.log"
        return Child(f"The {name}", command, environment, log, folder=_ROOT)


def _is_up_to_date(database_url: str) -> bool:
    """Say whether the database needs no migration: a process that finds this out takes a second."""
    # In a thread of its own, because the caller's thread may run an event loop already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, revisions.is_up_to_date(database_url)).result()


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), _PROBE_TIMEOUT.total_seconds()).close()
    except OSError:
        return False
    return True


def _is_ready(port: int, pid: int | None) -> bool:
    """Say whether our own process is ready, and not another one that has taken the port."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_PROBE_TIMEOUT.total_seconds())
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status == HTTPStatus.OK and json.load(answer).get("process") == pid
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()


@contextmanager
def _termination_as_interrupt() -> Generator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt inside the block, so that all is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Only those with their default action: nohup ignores SIGHUP, and that must stay so.
    signals = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
