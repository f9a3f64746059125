"""The scenario of a batch: the items a second of one worker, if the router answers at once."""

import asyncio
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.accounts.row_security import DatabaseRole
from schema.batches import store as batch_store
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind, JobState
from schema.specs.batch import MAX_CONCURRENCY, ItemRequest
from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.servers import (
    BenchServers,
    read_cpu_seconds,
    run_servers,
    run_worker_process,
)
from tests.bench.scenarios.simulated_hub import run_simulated_hub
from tests.support.jobs.batch_runs import lend_token
from tests.support.polling import eventually

_ITEMS: Final = {Size.TINY: 50, Size.QUICK: 500, Size.FULL: 10_000}
_SUBJECT: Final = "bench"
_TIMEOUT: Final = timedelta(minutes=10)

_READ_END: Final = """
SELECT job.state, extract(epoch FROM job.finished_at - job.started_at)::float8 AS seconds,
       (SELECT count(*) FROM batch_item WHERE job_id = job.id AND state = 'done') AS done
  FROM job
 WHERE id = $1
"""


def measure_batch(run: BenchRun) -> Rounds:
    """Let one worker process carry out one batch, with as many calls at a time as it may make."""
    items = _ITEMS[run.size]
    with (
        run_servers(run.folder) as servers,
        run_simulated_hub() as hub_url,
        run_worker_process(servers, servers.make_environment(hub_url)) as worker,
    ):
        cpu_before = read_cpu_seconds(worker)
        run.report(f"a batch of {items:,} items")
        job_id = asyncio.run(_submit_batch(servers, items))
        measures = asyncio.run(_wait_until_over(servers, job_id, items))
        cpu = read_cpu_seconds(worker) - cpu_before
    return {f"{items:,} items": [measures | {"worker_cpu_per_item_ms": cpu * 1000 / items}]}


async def _submit_batch(servers: BenchServers, items: int) -> UUID:
    spec: dict[str, Any] = {
        "model": "bench/model",
        "timeout": 60,
        "concurrency": MAX_CONCURRENCY,
        "items": {"count": items, "origin": "bench"},
    }
    requests = [
        ItemRequest(f"item-{number}", {"inputs": f"Is {number} a number?", "parameters": {}})
        for number in range(items)
    ]
    async with servers.open_database(DatabaseRole.WORKER) as database:
        await lend_token(database, servers.make_vault(), "hf_bench", _SUBJECT)
        async with database.transaction() as tx:
            job = await lifecycle.submit_job(
                tx,
                subject_id=_SUBJECT,
                kind=JobKind.BATCH,
                namespace=_SUBJECT,
                title="a batch",
                spec=spec,
                labels={},
                max_open_jobs=1,
            )
            await batch_store.add_items(tx, job.id, _SUBJECT, requests)
    return job.id


async def _wait_until_over(servers: BenchServers, job_id: UUID, items: int) -> dict[str, float]:
    async with servers.open_database(DatabaseRole.WORKER) as database:

        async def read_end() -> dict[str, Any]:
            return await _read_end(database, job_id)

        end = await eventually(read_end, lambda row: row["seconds"] is not None, timeout=_TIMEOUT)
    assert (end["state"], end["done"]) == (JobState.SUCCEEDED, items), end
    return {"items_per_second": items / end["seconds"], "seconds": end["seconds"]}


async def _read_end(database: Database, job_id: UUID) -> dict[str, Any]:
    async with database.transaction() as tx:
        row = await tx.fetchrow(_READ_END, job_id)
    assert row is not None
    return dict(row)
