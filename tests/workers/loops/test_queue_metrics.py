"""The numbers of a worker, and of the queues that it reads for everybody."""

from dataclasses import replace
from datetime import timedelta

from schema.common.observability.metrics import ProcessMetrics
from schema.jobs import run_launch
from schema.jobs.tables import JobKind
from tests.support.factories import JobFactory
from tests.support.jobs.worker_steps import SETTLE
from tests.support.metrics import Scrape
from workers.context import Worker
from workers.loops.queue_metrics import WorkerCollector
from workers.loops.reconcile_runs import reconcile_runs


async def read_page(collector: WorkerCollector) -> Scrape:
    return Scrape.from_text((await collector.render()).decode())


async def test_queues_are_read_once_in_five_seconds(worker: Worker, make_job: JobFactory) -> None:
    """Ten Prometheus servers cost the database what one does."""
    worker.metrics.add_kinds(worker.executors)
    collector = WorkerCollector(worker)
    labels = {"kind": "hub_job", "waits_for": "due"}
    await make_job()

    first = await read_page(collector)
    await make_job()
    second = await read_page(collector)
    other = WorkerCollector(replace(worker, metrics=ProcessMetrics()))
    other_page = await read_page(other)

    assert first.value("holdfast_queued_jobs", **labels) == 1
    assert second.value("holdfast_queued_jobs", **labels) == 1
    assert other_page.value("holdfast_queued_jobs", kind="other", waits_for="due") == 2
    assert first.value("holdfast_queue_oldest_wait_seconds", kind="hub_job") > 0


async def test_a_row_that_nobody_owns_is_counted(worker: Worker, make_job: JobFactory) -> None:
    """It is always 0, so an alert on it is never noise; here a counter is broken by hand."""
    job = await make_job()
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE subject SET queued = 0")

    page = await read_page(WorkerCollector(worker))

    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE subject SET queued = 1")
    assert page.value("holdfast_unowned_rows") == 1, job


async def test_a_lapse_is_counted_by_the_worker_that_takes_over(
    worker: Worker, make_job: JobFactory
) -> None:
    """Lapses are what the death of a worker looks like from the others."""
    collector = WorkerCollector(worker)
    await make_job()
    async with worker.database.transaction() as tx:
        await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w2", lease=timedelta(0), settle_window=SETTLE
        )

    await reconcile_runs(worker)

    page = await read_page(collector)
    assert page.value("holdfast_lease_lapses_total", kind="hub_job") == 1


async def test_without_a_database_the_queues_are_left_out(worker: Worker) -> None:
    """An old number looks like a true one; `holdfast_database_up` says why there is none."""
    collector = WorkerCollector(worker)
    await worker.database.__aexit__()

    page = await read_page(collector)

    assert page.value("holdfast_database_up") == 0
    assert page.value("holdfast_worker_slots", kind="hub_job") > 0
    assert not [name for name, _ in page.samples if name == "holdfast_queued_jobs"]
