"""The queues of other makers under our load: `python queue_peers.py NAME LOAD`, where they live.

Each is set up as its documentation advises for many short jobs. What a peer keeps of a job is as it
comes: procrastinate and DBOS keep a row for each, pgqueuer deletes it, arq and docket forget it.
One is no queue: the bare INSERT of one row, which no durable submit can be quicker than.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from queue_load import SINK, LoadSize, QueueResult, measure, measure_submits

POSTGRES = os.environ["BENCH_DATABASE_URL"]
REDIS = os.environ["BENCH_REDIS_URL"]
SLOTS = 32
POLL_SECONDS = 0.02
TIMEOUT_SECONDS = 120.0


class _PeerQueue:
    drains_while_submitting = False

    def __init__(
        self,
        name: str,
        submit: Callable[[str | None], Awaitable[Any]],
        drain: Callable[[], Awaitable[None]],
        run_forever: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self._submit, self._drain, self._run_forever = submit, drain, run_forever

    async def submit(self, key: str | None) -> None:
        await self._submit(key)

    async def drain(self, runs: int) -> None:
        await self._drain()

    @asynccontextmanager
    async def run_worker(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def run_procrastinate(size: LoadSize) -> QueueResult:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=POSTGRES, min_size=4, max_size=20))

    @app.task(queue="bench")
    async def noop(key: str | None = None) -> None:
        SINK.hit(key)

    def work(*, wait: bool) -> Awaitable[None]:
        return app.run_worker_async(
            queues=["bench"],
            concurrency=size.slots or SLOTS,
            wait=wait,
            install_signal_handlers=False,
        )

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        queue = _PeerQueue(
            "procrastinate",
            lambda key: noop.defer_async(key=key),
            lambda: work(wait=False),
            lambda: work(wait=True),
        )
        return await measure(queue, size)


async def run_pgqueuer(size: LoadSize) -> QueueResult:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
    from pgqueuer.qm import QueueManager
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    async with asyncpg.create_pool(POSTGRES, min_size=4, max_size=20) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        await queries.install()

        async def work(mode: Any) -> None:
            connection = await asyncpg.connect(POSTGRES)
            worker = QueueManager(Queries(AsyncpgDriver(connection)))

            @worker.entrypoint("noop", concurrency_limit=size.slots or 0)
            async def noop(job: Any) -> None:
                SINK.hit((job.payload or b"").decode() or None)

            try:
                await worker.run(batch_size=10, mode=mode, dequeue_timeout=timedelta(seconds=30))
            finally:
                worker.shutdown.set()
                await connection.close()

        queue = _PeerQueue(
            "pgqueuer",
            lambda key: queries.enqueue(["noop"], [(key or "").encode()], [0]),
            lambda: work(QueueExecutionMode.drain),
            lambda: work(QueueExecutionMode.continuous),
        )
        return await measure(queue, size)


async def run_dbos(size: LoadSize) -> QueueResult:
    from dbos import DBOS, DBOSConfig

    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": POSTGRES.replace("postgresql:", "postgresql+psycopg:"),
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)

    @DBOS.workflow()
    async def noop(key: str | None = None) -> None:
        SINK.hit(key)

    DBOS.launch()
    await DBOS.register_queue_async(
        "bench", polling_interval_sec=POLL_SECONDS, worker_concurrency=size.slots
    )

    async def drain(runs: int) -> None:
        give_up_at = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
        while SINK.runs < runs and asyncio.get_running_loop().time() < give_up_at:
            await asyncio.sleep(POLL_SECONDS)  # between two looks at what its worker has run

    async def wait_forever() -> None:
        await asyncio.Event().wait()

    queue = _PeerQueue(
        "dbos",
        lambda key: DBOS.enqueue_workflow_async("bench", noop, key),
        wait_forever,
        wait_forever,
    )
    queue.drains_while_submitting = True
    queue.drain = drain  # type: ignore[method-assign]
    try:
        return await measure(queue, size)
    finally:
        DBOS.destroy()


async def run_arq(size: LoadSize) -> QueueResult:
    from arq.connections import RedisSettings, create_pool
    from arq.worker import Worker, func

    settings = RedisSettings.from_dsn(REDIS)
    pool = await create_pool(settings)

    async def noop(_: dict[Any, Any], key: str | None = None) -> None:
        SINK.hit(key)

    async def work(*, burst: bool) -> None:
        worker = Worker(
            functions=[func(noop, name="noop")],
            redis_settings=settings,
            burst=burst,
            handle_signals=False,
            poll_delay=POLL_SECONDS,
            max_jobs=size.slots or SLOTS,
            keep_result=0,
            log_results=False,
        )
        try:
            await worker.async_run()
        finally:
            await worker.close()

    queue = _PeerQueue(
        "arq",
        lambda key: pool.enqueue_job("noop", key),
        lambda: work(burst=True),
        lambda: work(burst=False),
    )
    return await measure(queue, size)


async def run_docket(size: LoadSize) -> QueueResult:
    from docket import Docket, Worker

    async def noop(key: str | None = None) -> None:
        SINK.hit(key)

    async with Docket(name="bench", url=REDIS) as docket:
        docket.register(noop)

        def submit(key: str | None) -> Awaitable[Any]:
            return docket.add(noop)(key)  # `add` draws the name of one job

        async def work(*, forever: bool) -> None:
            async with Worker(docket, concurrency=size.slots or SLOTS) as worker:
                await (worker.run_forever() if forever else worker.run_until_finished())

        queue = _PeerQueue(
            "docket",
            submit,
            lambda: work(forever=False),
            lambda: work(forever=True),
        )
        return await measure(queue, size)


async def run_insert(size: LoadSize) -> QueueResult:
    import asyncpg

    async with asyncpg.create_pool(POSTGRES, min_size=4, max_size=20) as pool:
        await pool.execute("CREATE TABLE job (id bigserial PRIMARY KEY, spec jsonb NOT NULL)")

        async def insert(key: str | None) -> None:
            await pool.execute("INSERT INTO job (spec) VALUES ($1)", json.dumps({"key": key}))

        return await measure_submits(insert, size)


PEERS = {
    "insert": run_insert,
    "procrastinate": run_procrastinate,
    "pgqueuer": run_pgqueuer,
    "dbos": run_dbos,
    "arq": run_arq,
    "docket": run_docket,
}


if __name__ == "__main__":
    logging.disable(logging.INFO)
    _, peer, load = sys.argv
    asyncio.run(PEERS[peer](LoadSize(**json.loads(load)))).print()
