"""How does a private Postgres start, survive what happens to it, and stop?

Reached over loopback with a password, so it is the same on every system. A server that a killed
supervisor left behind is stopped before the next one starts on the same cluster.
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

from service.local.data_dir import remembered
from service.local.ports import start_on_steady_port
from service.local.processes.child import Child, stop_orphan
from service.local.servers.postgres_cluster import Cluster, settle

_START: Final = timedelta(seconds=60)
_ENDINGS: Final = (
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
_FORGETFUL: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """One Postgres server whose cluster belongs to `folder`; not `durable` is for tests."""

    def __init__(self, folder: Path, *, database: str = "holdfast", durable: bool = True) -> None:
        self.name = "Postgres"
        self.folder = folder.resolve()
        self._database = database
        self._durable = durable
        self._child: Child | None = None
        self._cluster: Cluster | None = None

    @property
    def exit_code(self) -> int | None:
        """How the server ended by itself; None while it runs or is stopped."""
        return self._child.exit_code if self._child else None

    def start(self) -> str:
        """Start the server, make its database if there is none, and return the DSN."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # libpq's variables would redirect the programs to another server.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment |= {"LC_ALL": "C", "TZ": "UTC"}
        cluster = self._cluster = settle(self.folder)
        password = remembered(self.folder / "password", token_urlsafe)
        cluster.make(password, environment, durable=self._durable)
        pidfile = cluster.files / "postmaster.pid"
        if self._child:
            self._child.stop()
        # Also removes a stale file whose number another process has by now; Postgres would give up.
        stop_orphan(pidfile, str(cluster.files), *_ENDINGS[0])

        def start(port: int) -> None:
            child = self._child = Child(
                self.name,
                [cluster.programs / "postgres", "-D", cluster.files, *self._options(port)],
                environment,
                self.folder / "postgres.log",
                folder=cluster.home,
                identity=cluster.account,
                endings=_ENDINGS,
            )
            child.start()
            child.wait_until(lambda: _says_ready(pidfile, child.pid), within=_START)

        port = start_on_steady_port(self.folder / "port", start)
        server = f"postgresql://postgres:{password}@127.0.0.1:{port}"
        _make_database(f"{server}/postgres", self._database)
        return f"{server}/{self._database}"

    def stop(self) -> None:
        """Stop the server; a cluster that is not durable leaves nothing outside its folder."""
        if self._child:
            self._child.stop()
        if self._cluster and self._cluster.home != self.folder and not self._durable:
            shutil.rmtree(self._cluster.home)
            with suppress(OSError):  # unless somebody else's cluster is in it
                self._cluster.home.parent.rmdir()

    def _options(self, port: int) -> list[str]:
        settings = _SETTINGS | {"port": str(port)} | ({} if self._durable else _FORGETFUL)
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _says_ready(pidfile: Path, pid: int | None) -> bool:
    """Whether this very server, not an earlier one, has written that it takes connections."""
    try:
        lines = pidfile.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return False
    return lines[0] == str(pid) and lines[7:8] == ["ready   "]


def _make_database(server: str, name: str) -> None:
    async def make() -> None:
        connection = await asyncpg.connect(server)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    # In a thread, because the caller's may have an event loop already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, make()).result()
