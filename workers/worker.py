"""The composition root of the worker, and its settings for arq.

`holdfast worker` (`workers.__main__`) starts without Redis, and goes on when Redis is lost. Plain
`arq workers.worker.WorkerSettings` runs the same loops, but needs Redis to start, and a supervisor
that restarts it.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import httpx2
import structlog
from arq import func

from schema.accounts import operator_actions, restored_subjects, vault_keys
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.common import failpoints
from schema.common.observability import log_config
from schema.common.observability.metrics import ProcessMetrics
from schema.common.observability.tracing import open_tracer
from schema.common.process.background import run_in_background
from schema.common.process.tls import shared_ssl_context
from schema.db import revisions
from schema.db.database import Database
from schema.hub.oauth.connection_refresh import ConnectionRefresher
from schema.hub.oauth.upstream import Application, IssuerMetadata, UpstreamServer
from schema.messaging import wakeups
from schema.messaging.change_notifications import open_change_publisher
from schema.settings import Settings
from workers import executors
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.hub.client import open_hub_jobs_client
from workers.loops import engine

_APPLICATION_NAME: Final = "holdfast-worker"
"""The name of its connections in Postgres; the number of workers is counted by this name."""

_WORKER_KEY: Final = "worker"
_ARQ_POLL_SECONDS: Final = 0.5
"""How often arq looks for messages; `receive_wakeups` is told at once."""

log = structlog.stdlib.get_logger()


@asynccontextmanager
async def open_refresher(
    settings: Settings, database: Database, vault: Vault
) -> AsyncGenerator[ConnectionRefresher | None]:
    """Open what refreshes connected accounts; None if nobody can connect one."""
    if settings.hf_oauth_client_id is None:
        yield None
        return
    secret = settings.hf_oauth_client_secret
    async with httpx2.AsyncClient(verify=shared_ssl_context()) as session:
        hub = UpstreamServer(
            session,
            IssuerMetadata(session, str(settings.hub_url).rstrip("/"), {}),
            Application(
                client_id=settings.hf_oauth_client_id,
                client_secret=None if secret is None else Secret(secret.get_secret_value()),
                redirect_url="",
            ),
            audience=None,
        )
        yield ConnectionRefresher(database.transaction, vault, hub, lends_tokens=True)


@asynccontextmanager
async def build_worker(settings: Settings) -> AsyncGenerator[Worker]:
    """Build a worker from its settings, with all executors.

    Raises:
        Unavailable: the database cannot be reached.
        WrongRevision: this release does not run on the database.
        Conflict: the database knows another key under the id of one of ours.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    failpoints.arm(settings.failpoint)
    metrics = ProcessMetrics()
    async with (
        open_tracer(settings.trace_collector, process=_APPLICATION_NAME) as tracer,
        open_change_publisher(str(settings.redis_url)) as publisher,
        Database(
            str(settings.database_url),
            application_name=f"{_APPLICATION_NAME} {name}",
            role=DatabaseRole.WORKER,
            max_connections=settings.database_connections,
            pooled=settings.pooled,
            on_job_changes=publisher.enqueue,
            on_transitions=metrics.observe_transitions,
            on_refusal=revisions.require_usable_revision,
        ) as database,
        open_hub_jobs_client(
            str(settings.hub_url), str(settings.router_url), on_request=metrics.count_hub_request
        ) as hub,
    ):
        async with database.transaction() as tx:
            await revisions.require_usable_revision(tx)
        vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
        async with database.transaction() as tx:
            missing = await vault_keys.compare_vault_keys(tx, vault)
            deployment_id = await restored_subjects.read_deployment_id(tx)
            await operator_actions.save_default_limits(
                tx,
                max_active=settings.max_active,
                max_active_by_kind=settings.max_active_by_kind,
            )
        if missing:
            # Not fatal: what was sealed since can be opened, and the rest may be lost for good.
            remedy = vault_keys.describe_missing_keys(missing)
            log.error("vault.key_missing", keys=missing, remedy=remedy)
        all_executors = executors.discover_executors(ExecutorDeps(hub, database, settings, vault))
        metrics.watch_pool(database.read_pool_usage)
        metrics.add_kinds(all_executors)
        async with open_refresher(settings, database, vault) as refresher:
            yield Worker(
                name=name,
                settings=settings,
                database=database,
                vault=vault,
                hub=hub,
                executors=all_executors,
                deployment_id=deployment_id,
                metrics=metrics,
                refresher=refresher,
                tracer=tracer,
            )


async def wake(ctx: dict[Any, Any], job_id: str) -> None:
    """Wake the loops. The id only helps people who read logs: the rows say what is due."""
    del job_id
    worker = ctx[_WORKER_KEY]
    assert isinstance(worker, Worker)  # noqa: S101  # arq's ctx is untyped
    engine.wake_loops(worker)


async def receive_wakeups(worker: Worker) -> None:
    """Wake the loop that a wake-up is for, as soon as it is sent."""
    await wakeups.receive_wakeups(str(worker.settings.redis_url), partial(engine.wake_loop, worker))


def arq_settings(settings: Settings, worker: Worker | None = None) -> dict[str, Any]:
    """Return arq's settings, for a worker that runs already, or for one that arq starts.

    `worker` is the one that runs already; none if arq is to start and stop one.
    """
    lifecycle = _WorkerLifecycle(settings)
    return {
        "queue_name": wakeups.queue_name(),
        "redis_settings": wakeups.arq_redis_settings(
            str(settings.redis_url), supervised=worker is not None
        ),
        "functions": [func(wake, name=wakeups.WAKE_TASK, timeout=55, keep_result=0, max_tries=5)],
        "poll_delay": _ARQ_POLL_SECONDS,
        "max_jobs": 64,
        "queue_read_limit": 1000,  # a queue stops when this many messages are in progress
        "job_serializer": wakeups.encode_message,
        "job_deserializer": wakeups.decode_message,
        "health_check_interval": 60,
        "log_results": False,
        **(
            {"on_startup": lifecycle.start, "on_shutdown": lifecycle.stop}
            if worker is None
            else {"ctx": {_WORKER_KEY: worker}, "handle_signals": False}
        ),
    }


class _WorkerLifecycle:
    """A worker that starts and stops with arq."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = anyio.Event()
        self._workers: asyncio.Queue[Worker] = asyncio.Queue()
        """Gets the one worker as soon as it is built."""

    async def start(self, ctx: dict[Any, Any]) -> None:
        log_config.configure_logging()
        # A task of its own, because arq calls `start` and `stop` from two different tasks.
        self._loops_task = asyncio.create_task(self._run())
        build_task = asyncio.create_task(self._workers.get())
        await asyncio.wait([self._loops_task, build_task], return_when=asyncio.FIRST_COMPLETED)
        if self._loops_task.done():
            build_task.cancel()
            await self._loops_task
        ctx[_WORKER_KEY] = await build_task

    async def stop(self, _: dict[Any, Any]) -> None:
        self._stop.set()
        await self._loops_task

    async def _run(self) -> None:
        async with build_worker(self._settings) as worker:
            self._workers.put_nowait(worker)
            async with run_in_background(receive_wakeups(worker)):
                await engine.run_loops(worker, self._stop)
            worker.activity.require_usable_revision()


def __getattr__(name: str) -> type:
    # arq reads a class. It is made on access, so that no import reads the environment.
    if name == "WorkerSettings":
        return type(name, (), arq_settings(Settings.from_env()))
    raise AttributeError(name)
