"""A worker whose steps are taken one by one, and the local Hub it speaks to."""

from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from typing import Any

import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs import run_launch
from schema.jobs.progress import JobProgress
from schema.jobs.queries import JobStatus
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.local.hub_emulator.users import find_user
from tests.service.local.hub_emulator.conftest import HubEmulatorProcess, run_hub_emulator
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.executor import Created, ExecutionRequest
from workers.executors.hub_job import HubJobExecutor
from workers.hub.client import open_hub_client
from workers.loops.poll_runs import poll_runs

SLEEP_SPEC: dict[str, Any] = {"image": "python:3.12", "command": ["sleep", "600"], "timeout": 60}


@pytest.fixture(scope="module")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def worker(
    local_hub: HubEmulatorProcess,
    database: Database,
    vault: Vault,
    settings: Callable[..., Settings],
) -> AsyncGenerator[Worker]:
    """A worker without loops: each test takes its steps itself."""
    async with open_hub_client(local_hub.url, local_hub.url) as gateway:
        executor = HubJobExecutor(gateway)
        yield Worker(
            name="w1",
            settings=settings(settle="1ms", post_timeout="1ms", lease="1s"),
            database=database,
            vault=vault,
            hub=gateway,
            executors={JobKind.HUB_JOB: executor},
        )


@pytest.fixture
async def signed_in(worker: Worker, local_hub: HubEmulatorProcess, ada: str, vault: Vault) -> None:
    """Ada has lent a token that the Hub takes."""
    token = find_user(local_hub.users, "alice").token
    async with worker.database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ada, name="ada", token=Secret(token), expires_at=None
        )


@pytest.fixture
async def doubted(worker: Worker, signed_in: None, make_job: JobFactory) -> ClaimedJob:
    """A run whose create request was sent, and whose answer nobody has seen."""
    await make_job(namespace="alice", spec=SLEEP_SPEC)
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle_window=worker.settings.settle,
        )
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="no answer", worker="w1")
    return claim


def ignore_progress(_: JobProgress) -> None:
    """Report to nobody."""


async def create_upstream_job(
    worker: Worker,
    local_hub: HubEmulatorProcess,
    claim: ClaimedJob,
    spec: dict[str, Any] = SLEEP_SPEC,
) -> str:
    """Let the Hub have received a request for this run; return the id it gave."""
    token = Secret(find_user(local_hub.users, "alice").token)
    within = timedelta(seconds=10)
    order = ExecutionRequest(
        claim.run_id, claim.job_id, "alice", spec, {}, token, {}, within, ignore_progress
    )
    outcome = await worker.executors[JobKind.HUB_JOB].execute(order)
    assert isinstance(outcome, Created)
    return outcome.remote_id


async def read_status(worker: Worker, claim: ClaimedJob) -> JobStatus:
    async with worker.database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, claim.job_id)
    assert status is not None
    return status


async def make_rows_due(worker: Worker, table: str) -> None:
    async with worker.database.transaction() as tx:
        await tx.execute(f"UPDATE {table} SET due_at = now() WHERE due_at IS NOT NULL")  # noqa: S608  # our names


def read_stage(local_hub: HubEmulatorProcess, remote_id: str) -> Any:
    return local_hub.api().inspect_job(job_id=remote_id, namespace="alice").status.stage


async def poll_namespace(worker: Worker) -> None:
    """List the namespace, whether or not anything there is known to be alive."""
    async with worker.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO poll_group (subject_id, namespace, due_at) VALUES ($1, 'alice', now())"
            " ON CONFLICT (subject_id, namespace) DO UPDATE SET due_at = now()",
            ADA_ID,
        )
    await poll_runs(worker)
