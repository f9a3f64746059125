"""The composition root of the worker, and arq's view of it.

`holdfast worker` (`workers.__main__`) starts without a Redis and outlives its absence. Plain
`arq workers.worker.WorkerSettings` runs the same engine, but needs a Redis to start with, and a
supervisor that starts it again.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from arq import func

from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Vault
from schema.common import failpoints, log_config
from schema.common.errors import Conflict
from schema.db import revisions
from schema.db.database import Database
from schema.messaging import wakeups
from schema.messaging.change_notifications import open_change_publisher
from schema.settings import Settings
from workers import executors
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.hub.client import open_hub_jobs_client
from workers.loops import engine

_APPLICATION_NAME: Final = "holdfast-worker"
"""How its connections are named in Postgres; whoever counts workers counts these names."""

_WORKER_KEY: Final = "worker"


@asynccontextmanager
async def build_worker(settings: Settings) -> AsyncGenerator[Worker]:
    """Build a worker from its settings, with every executor there is.

    Raises:
        Unavailable: the database cannot be reached.
        Conflict: the database is not at the revision this code is written for.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    failpoints.arm(settings.failpoint)
    async with (
        open_change_publisher(str(settings.redis_url)) as told,
        Database(
            str(settings.database_url),
            application_name=f"{_APPLICATION_NAME} {name}",
            role=DatabaseRole.WORKER,
            on_job_changes=told.enqueue,
        ) as database,
        open_hub_jobs_client(str(settings.hub_url), str(settings.router_url)) as gateway,
    ):
        async with database.transaction() as tx:
            found, wanted = await revisions.read_current_revision(tx), revisions.head_revision()
        if found != wanted:
            raise Conflict(
                f"The database is at revision {found}, this worker wants {wanted}. "
                f"Run `holdfast migrate` first."
            )
        vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
        yield Worker(
            name=name,
            settings=settings,
            database=database,
            vault=vault,
            hub=gateway,
            executors=executors.discover_executors(
                ExecutorDeps(gateway, database, settings, vault)
            ),
        )


async def wake(ctx: dict[Any, Any], job_id: str) -> None:
    """Answer the doorbell. The id is a hint for people who read logs: the rows say what is due."""
    del job_id
    worker = ctx[_WORKER_KEY]
    assert isinstance(worker, Worker)  # noqa: S101  # arq's ctx is untyped
    engine.wake_loops(worker)


def arq_settings(settings: Settings, worker: Worker | None = None) -> dict[str, Any]:
    """Say how arq is to be run; for an engine already at work, or for one that arq starts."""
    beside = _EngineBesideArq(settings)
    return {
        "queue_name": wakeups.queue_name(),
        "redis_settings": wakeups.arq_redis_settings(
            str(settings.redis_url), supervised=worker is not None
        ),
        "functions": [func(wake, name=wakeups.WAKE_TASK, timeout=55, keep_result=0, max_tries=5)],
        "poll_delay": 0.02,
        "max_jobs": 64,
        "queue_read_limit": 1000,  # a queue stops when this many messages are in progress
        "job_serializer": wakeups.encode_message,
        "job_deserializer": wakeups.decode_message,
        "health_check_interval": 60,
        "log_results": False,
        **(
            {"on_startup": beside.start, "on_shutdown": beside.stop}
            if worker is None
            else {"ctx": {_WORKER_KEY: worker}, "handle_signals": False}
        ),
    }


class _EngineBesideArq:
    """An engine at work beside arq, from arq's start to arq's end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = anyio.Event()
        self._built_workers: asyncio.Queue[Worker] = asyncio.Queue()

    async def start(self, ctx: dict[Any, Any]) -> None:
        log_config.configure_logging()
        # A task of its own: arq starts and stops us from two different ones.
        self._engine_task = asyncio.create_task(self._run())
        built = asyncio.create_task(self._built_workers.get())
        await asyncio.wait([self._engine_task, built], return_when=asyncio.FIRST_COMPLETED)
        if self._engine_task.done():
            built.cancel()
            await self._engine_task
        ctx[_WORKER_KEY] = await built

    async def stop(self, _: dict[Any, Any]) -> None:
        self._stop.set()
        await self._engine_task

    async def _run(self) -> None:
        async with build_worker(self._settings) as worker:
            self._built_workers.put_nowait(worker)
            await engine.run_loops(worker, self._stop)


def __getattr__(name: str) -> type:
    # arq reads a class; making it when it is asked for keeps the environment out of imports.
    if name == "WorkerSettings":
        return type(name, (), arq_settings(Settings.from_env()))
    raise AttributeError(name)
