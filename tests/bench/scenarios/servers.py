"""Servers of one scenario, their settings, the people on them, and processes of ours."""

import asyncio
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.db import revisions
from schema.db.database import Database
from service.local.environment import service_environment
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.support.polling import eventually
from tests.support.programs import run_program

APPLICATION_NAME: Final = "bench"
"""Of the connections of this process."""
_CONNECTIONS: Final = 10
"""Of a process to Postgres: the default of the product."""
_NO_HUB: Final = "http://127.0.0.1:9"
"""Nobody answers there."""


@dataclass(frozen=True, slots=True)
class BenchServers:
    """A durable Postgres whose database is up to date, and a Valkey."""

    folder: Path
    database_url: str
    redis_url: str

    @property
    def postgres_log(self) -> Path:
        """What Postgres has written."""
        return self.folder / "postgres" / "postgres.log"

    def make_environment(self, hub_url: str = _NO_HUB, **settings: str) -> dict[str, str]:
        """Return the environment of a process of ours: the defaults of production.

        Args:
            hub_url: of the Hub and its router.
            settings: others than the defaults, by the name of the variable.
        """
        return service_environment(
            self.folder,
            os.environ | {"HOLDFAST_ROUTER_URL": hub_url} | settings,
            database_url=self.database_url,
            redis_url=self.redis_url,
            hub_url=hub_url,
            hub_is_local=False,
            public_url="http://127.0.0.1:1",
        )

    def make_vault(self) -> Vault:
        """Return the vault of all processes on these servers."""
        return Vault.from_key_ring(self.make_environment()["HOLDFAST_VAULT_KEYS"])

    def open_database(self, role: DatabaseRole, *, url: str | None = None) -> Database:
        """Return a database as a process of ours has it.

        Args:
            url: of another database of the server.
        """
        return Database(
            url or self.database_url,
            application_name=APPLICATION_NAME,
            role=role,
            max_connections=_CONNECTIONS,
        )

    def create_database(self, name: str) -> str:
        """Create a database that is up to date and empty, and return its URL."""
        asyncio.run(self._copy_database(name))
        return f"{self.database_url.rpartition('/')[0]}/{name}"

    async def _copy_database(self, name: str) -> None:
        server, _, template = self.database_url.rpartition("/")
        connection = await asyncpg.connect(f"{server}/postgres")
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()


@contextmanager
def run_servers(folder: Path) -> Generator[BenchServers]:
    """Run the servers for the length of a block."""
    postgres = Postgres(folder / "postgres", durable=True)
    valkey = Valkey(folder / "valkey", durable=True)
    try:
        servers = BenchServers(folder, postgres.start(), valkey.start())
        revisions.upgrade_to_revision(servers.database_url)
        yield servers
    finally:
        valkey.stop()
        postgres.stop()


@contextmanager
def run_worker_process(
    servers: BenchServers, environment: dict[str, str]
) -> Generator[psutil.Process]:
    """Run a worker as a process for the length of a block, which begins when it is at work."""
    log = servers.folder / "worker.log"
    with run_program("service", "worker", environment=environment, log=log) as process:
        asyncio.run(_wait_for_heartbeat(servers, process.pid))
        yield psutil.Process(process.pid)


async def _wait_for_heartbeat(servers: BenchServers, pid: int) -> None:
    async with servers.open_database(DatabaseRole.WORKER) as database:

        async def find_heartbeat() -> bool:
            async with database.transaction() as tx:
                row: bool | None = await tx.fetchval(
                    "SELECT true FROM worker_heartbeat WHERE name LIKE $1", f"%:{pid}"
                )
            return row is not None

        await eventually(find_heartbeat, bool)


async def lend_tokens(database: Database, vault: Vault, subject_ids: Iterable[str]) -> None:
    """Lend a token of each subject to their jobs, in one transaction.

    Args:
        database: one in the role of a worker, which acts for everybody.
    """
    async with database.transaction() as tx:
        for subject_id in subject_ids:
            await credentials.save_credential(
                tx,
                vault,
                subject_id=subject_id,
                name=subject_id,
                token=Secret(f"hf_{subject_id}"),
                expires_at=None,
            )


def read_cpu_seconds(process: psutil.Process) -> float:
    """Return how much CPU a process has used, of all cores together."""
    times = process.cpu_times()
    seconds: float = times.user + times.system
    return seconds
