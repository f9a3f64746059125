"""Runs on the local Hub, taken step by step with a worker without loops."""

from datetime import timedelta
from typing import Any

from schema.accounts.vault import Secret
from schema.jobs import queries as job_queries
from schema.jobs.progress import JobProgress
from schema.jobs.queries import JobStatus
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from service.local.hub_emulator.users import find_user
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.executor import Created, ExecutionRequest
from workers.loops.poll_runs import poll_runs

SLEEP_SPEC: dict[str, Any] = {"image": "python:3.12", "command": ["sleep", "600"], "timeout": 60}


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
