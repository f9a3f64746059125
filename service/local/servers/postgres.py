"""A private Postgres server: its start, its restart after a crash, and its end.

Clients reach it over the loopback address with a password, the same on every system. A server that
a killed supervisor has left behind is stopped before the next one starts on the same cluster.
"""

import asyncio
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

import asyncpg

from service.local.data_dir import read_or_create_private_file
from service.local.ports import start_on_stable_port
from service.local.processes.child import Child, stop_orphan
from service.local.servers.postgres_cluster import PostgresCluster, locate_cluster

_START_TIMEOUT: Final = timedelta(seconds=60)
_STOP_SIGNALS: Final = (
    (signal.SIGINT, timedelta(seconds=20)),  # fast: roll back, write a checkpoint
    (signal.SIGQUIT, timedelta(seconds=5)),  # immediate: recover at the next start
    (signal.SIGKILL, timedelta(seconds=5)),
)
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a deep folder makes too long a path for a socket
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE_SETTINGS: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """One Postgres server on the cluster of `folder`; only tests switch `durable` off."""

    def __init__(self, folder: Path, *, database: str = "holdfast", durable: bool = True) -> None:
        self.name = "Postgres"
        self.folder = folder.resolve()
        self._database = database
        self._durable = durable
        self._child: Child | None = None
        self._cluster: PostgresCluster | None = None

    @property
    def exit_code(self) -> int | None:
        """How the server ended by itself; None while it runs or is stopped."""
        return self._child.exit_code if self._child else None

    def start(self) -> str:
        """Start the server, create its database if it is missing, and return the DSN."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The variables of libpq would lead the programs to another server.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PG")
        }
        environment |= {"LC_ALL": "C", "TZ": "UTC"}
        cluster = self._cluster = locate_cluster(self.folder)
        password = read_or_create_private_file(self.folder / "password", token_urlsafe)
        cluster.create(password, environment, durable=self._durable)
        pidfile = cluster.data_directory / "postmaster.pid"
        if self._child:
            self._child.stop()
        # Also removes a stale file whose pid another process has by now: Postgres would refuse it.
        stop_orphan(pidfile, str(cluster.data_directory), *_STOP_SIGNALS[0])

        def start(port: int) -> None:
            child = self._child = Child(
                self.name,
                [
                    cluster.bin_folder / "postgres",
                    "-D",
                    cluster.data_directory,
                    *self._options(port),
                ],
                environment,
                self.folder / "postgres.log",
                folder=cluster.home,
                account=cluster.account,
                stop_signals=_STOP_SIGNALS,
            )
            child.start()
            child.wait_until(lambda: _is_ready(pidfile, child.pid), timeout=_START_TIMEOUT)

        port = start_on_stable_port(self.folder / "port", start)
        server = f"postgresql://postgres:{password}@127.0.0.1:{port}"
        _create_database(f"{server}/postgres", self._database)
        return f"{server}/{self._database}"

    def stop(self) -> None:
        """Stop the server, and remove what a cluster that is not durable has outside its folder."""
        if self._child:
            self._child.stop()
        if self._cluster and self._cluster.home != self.folder and not self._durable:
            shutil.rmtree(self._cluster.home)
            with suppress(OSError):  # another folder's cluster is in it too
                self._cluster.home.parent.rmdir()

    def _options(self, port: int) -> list[str]:
        settings = (
            _SETTINGS | {"port": str(port)} | ({} if self._durable else _NOT_DURABLE_SETTINGS)
        )
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _is_ready(pidfile: Path, pid: int | None) -> bool:
    """Say whether this server, not an earlier one, has written that it takes connections."""
    try:
        lines = pidfile.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return False
    return lines[0] == str(pid) and lines[7:8] == ["ready   "]


def _create_database(server_dsn: str, name: str) -> None:
    async def create_if_missing() -> None:
        connection = await asyncpg.connect(server_dsn)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    # In a thread of its own, because the caller's thread may run an event loop already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, create_if_missing()).result()
