"""An executor is one module: nothing else knows of it, and everything works with it."""

import re
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import cast
from uuid import UUID

import anyio
import pytest

import workers.executors
from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common.errors import Invalid
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState
from schema.settings import Settings
from service.jobs.retries import plan_retry
from service.views.jobs import JobView
from tests.support.factories import JobFactory
from tests.support.paths import DOCS
from tests.support.polling import SHORT_INTERVAL, eventually
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.executors import discover_executors
from workers.hub.client import HubJobsClient
from workers.loops import engine

EXAMPLE_PAGE = DOCS / "executors.md"


@pytest.fixture
async def worker(
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    ada_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[Worker]:
    """A worker at work that finds the example of the documentation among its executors."""
    example = re.search(r"```python\n(.*?)```", EXAMPLE_PAGE.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "pause_of_the_docs.py").write_text(example[1])
    monkeypatch.setattr(workers.executors, "__path__", [*workers.executors.__path__, str(tmp_path)])
    worker_settings, hub = make_settings(sweep="50ms"), cast("HubJobsClient", None)
    worker = Worker(
        name="w1",
        settings=worker_settings,
        database=database,
        vault=vault,
        hub=hub,
        executors=discover_executors(ExecutorDeps(hub, database, worker_settings, vault)),
    )
    async with database.transaction() as tx:
        token = Secret("hf_ada")
        await credentials.save_credential(
            tx, vault, subject_id=ada_id, name="ada", token=token, expires_at=None
        )
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run_loops, worker, stop)
        yield worker
        stop.set()


async def wait_for_status(
    database: Database, job_id: UUID, predicate: Callable[[JobStatus], bool]
) -> JobStatus:
    """Read a job until the predicate holds of its status."""

    async def read_status() -> JobStatus:
        async with database.transaction() as tx:
            status = await job_queries.get_job_status(tx, ADA_ID, job_id)
        assert status is not None
        return status

    return await eventually(read_status, predicate, interval=SHORT_INTERVAL)


async def test_the_smallest_executor_is_one_file(worker: Worker, make_job: JobFactory) -> None:
    """Its jobs are claimed, carried out, shown and can be run again; no other file names it."""
    job = await make_job(kind="pause", spec={"steps": 3})

    status = await wait_for_status(worker.database, job.id, lambda status: status.is_settled)

    assert status.state is JobState.SUCCEEDED
    view = JobView.from_status(status, "https://hub")
    assert (view.kind, view.summary) == ("pause", "Succeeded.")
    async with worker.database.transaction() as tx:
        assert await job_queries.get_job_result(tx, ADA_ID, job.id) == {"steps": 3}
    assert plan_retry(status, {}, {}).spec.to_stored_json() == {"steps": 3}
    with pytest.raises(Invalid, match="nothing of this job"):
        plan_retry(status, {"steps": 4}, {})


async def test_it_is_called_off_like_any_other(worker: Worker, make_job: JobFactory) -> None:
    """The engine drops a call whose job was cancelled; the executor needs no word of that."""
    job = await make_job(kind="pause", spec={"steps": 10**6})
    status = await wait_for_status(
        worker.database, job.id, lambda status: status.progress is not None
    )
    assert status.progress is not None
    assert status.progress["total"] == 10**6
    assert status.progress["message"] == "pausing"

    async with worker.database.transaction() as tx:
        assert await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)

    status = await wait_for_status(worker.database, job.id, lambda status: status.is_settled)
    assert status.state is JobState.CANCELLED
