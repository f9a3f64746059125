"""Behind PgBouncer in transaction mode: the walls hold, and everything works."""

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.common.errors import RoleRefused, Unavailable
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.lifecycle import Submission, SubmittedJob
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.app import create_app
from service.database import TenantDatabase
from service.local.hub_emulator.users import find_user
from tests.support.database.pgbouncer import run_pgbouncer
from tests.support.factories import JobFactory
from tests.support.http_server import serve_app
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.mcp.client import call_for_result
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, BOB_ID
from workers.loops import engine
from workers.worker import build_worker

POOL_SIZE = 2
IGNORED = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,client_min_messages"


@pytest.fixture
def hub_emulator(tmp_path: Path) -> Generator[HubEmulatorProcess]:
    """A Hub of the test's own."""
    with run_hub_emulator(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def pooled_url(database_url: str) -> Generator[str]:
    """The test's database, through a pooler with fewer connections than callers."""
    with run_pgbouncer(database_url, pool_size=POOL_SIZE) as url:
        yield url


async def test_each_transaction_acts_as_its_own_subject(
    pooled_url: str, database: Database, vault: Vault, make_job: JobFactory
) -> None:
    """Many callers share two connections of the server, and see only what is theirs."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=BOB_ID, name="bob", token=Secret("hf_bob"), expires_at=None
        )
    jobs = {
        ADA_ID: {(await make_job()).id},
        BOB_ID: {(await make_job(subject_id=BOB_ID, namespace="bob")).id for _ in range(2)},
    }

    async with Database(
        pooled_url, application_name="tests", role=DatabaseRole.TENANT, pooled=True
    ) as pooled:
        tenants = TenantDatabase(pooled)

        async def look(subject_id: str) -> None:
            for _ in range(10):
                async with tenants.as_subject(subject_id) as (tx, _hold):
                    rows = await tx.fetch("SELECT id FROM job")
                assert {row["id"] for row in rows} == jobs[subject_id]
                async with tenants.transaction() as tx:
                    assert await tx.fetch("SELECT id FROM job") == []

        async with anyio.create_task_group() as callers:
            for subject_id in [ADA_ID, BOB_ID] * 4:
                callers.start_soon(look, subject_id)


async def test_nothing_of_ours_stays_on_a_connection_of_the_server(
    pooled_url: str, ada_id: str
) -> None:
    """The pooler lends it to others next, with their own logins and settings."""
    async with Database(
        pooled_url, application_name="tests", role=DatabaseRole.TENANT, pooled=True
    ) as pooled:
        for _ in range(4):
            async with TenantDatabase(pooled).as_subject(ada_id) as (tx, _hold):
                assert await tx.fetchval("SELECT current_user::text") == "holdfast_tenant"
                assert await tx.fetchval("SHOW statement_timeout") == "20s"
        with pytest.raises(ZeroDivisionError):
            async with pooled.transaction() as tx:
                raise ZeroDivisionError

    for _ in range(POOL_SIZE):
        other = await asyncpg.connect(pooled_url, statement_cache_size=0)
        try:
            async with other.transaction():
                row = await other.fetchrow(
                    "SELECT current_user::text, current_setting('statement_timeout') AS timeout,"
                    " current_setting('holdfast.subject', true) AS subject,"
                    " (SELECT count(*) FROM pg_prepared_statements) AS statements"
                )
        finally:
            await other.close()
        assert row is not None
        assert (row["current_user"], row["timeout"], row["subject"] or "") == ("postgres", "0", "")
        assert row["statements"] == 0


async def test_submissions_commit_as_their_own_subjects(
    pooled_url: str, database: Database, vault: Vault, ada_id: str
) -> None:
    """Each is one transaction, with its role; one that is refused leaves nothing."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=BOB_ID, name="bob", token=Secret("hf_bob"), expires_at=None
        )

    async with Database(
        pooled_url, application_name="tests", role=DatabaseRole.TENANT, pooled=True
    ) as pooled:
        tenants = TenantDatabase(pooled)
        jobs: dict[str, list[SubmittedJob | None]] = {ada_id: [], BOB_ID: []}

        async def submit(acting_subject_id: str, subject_id: str, key: str) -> SubmittedJob | None:
            submission: Submission = {
                "subject_id": subject_id,
                "kind": JobKind.HUB_JOB,
                "namespace": "n",
                "title": "a job",
                "spec": {"command": ["true"]},
                "labels": {},
                "max_open_jobs": 3,
                "idempotency_key": key,
            }
            return await lifecycle.commit_job(tenants, acting_subject_id, **submission)

        async def submit_own(subject_id: str, key: str) -> None:
            jobs[subject_id].append(await submit(subject_id, subject_id, key))

        async with anyio.create_task_group() as callers:
            for number in range(5):
                for subject_id in jobs:
                    callers.start_soon(submit_own, subject_id, f"k{number}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await submit(ada_id, BOB_ID, "k")

        for subject_id, own in jobs.items():
            made = {job.id for job in own if job is not None}
            async with tenants.as_subject(subject_id) as (tx, _hold):
                assert {row["id"] for row in await tx.fetch("SELECT id FROM job")} == made
                assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 3
                assert await tx.fetchval("SELECT queued FROM subject") == 3
            assert len(made) == 3
        async with tenants.transaction() as tx:
            assert await tx.fetch("SELECT id FROM job") == []


async def test_a_service_and_a_worker_run_behind_a_pooler(
    pooled_url: str, make_settings: Callable[..., Settings], hub_emulator: HubEmulatorProcess
) -> None:
    """A job is launched, watched and collected."""
    settings = make_settings(
        HOLDFAST_DATABASE_URL=pooled_url, pooled=True, hub_url=hub_emulator.url, observe_min="50ms"
    )
    token = find_user(hub_emulator.users, "alice").token
    stop = anyio.Event()
    with serve_app(create_app(settings)) as url:
        async with build_worker(settings) as worker, anyio.create_task_group() as loops:
            loops.start_soon(engine.run_loops, worker, stop)
            call = partial(call_for_result, url, caller_token=token)
            launched = await call(
                "launch_job", image="python:3.12", command=["python", "-c", "print('pooled')"]
            )

            async def read_job() -> dict[str, Any]:
                view = await call("job_status", job_ids=launched["job_id"])
                job: dict[str, Any] = view["jobs"][0]
                return job

            job = await eventually(read_job, lambda job: job["finished_at"] is not None)
            assert job["state"] == "succeeded", job
            page = await call("job_logs", job_id=launched["job_id"])
            assert [line["text"] for line in page["lines"]] == ["pooled"]
            stop.set()


@pytest.mark.parametrize(
    ("ignored", "says"),
    [
        (f"role,{IGNORED}", "postgres acts in its place.* set HOLDFAST_POOLED=1, if a pooler"),
        (IGNORED, "The database cannot be reached"),
    ],
)
async def test_a_pooler_that_nobody_has_told_us_of_is_noticed(
    database_url: str, ignored: str, says: str
) -> None:
    """It would let us act as the login, or as whoever used the connection before."""
    with run_pgbouncer(database_url, pool_size=2, ignore_startup_parameters=ignored) as url:
        async with Database(url, application_name="tests", role=DatabaseRole.TENANT) as direct:
            with pytest.raises(Unavailable, match=says):
                async with direct.transaction() as tx:
                    await tx.fetchval("SELECT 1")


async def test_a_wall_that_is_off_is_not_served_without(database_url: str) -> None:
    """Somebody with rights has switched row-level security off; each process looks once."""
    async with Database(database_url, application_name="tests") as owner:
        async with owner.transaction() as tx:
            await tx.execute("ALTER TABLE job DISABLE ROW LEVEL SECURITY")
        async with Database(
            database_url, application_name="tests", role=DatabaseRole.TENANT
        ) as database:
            with pytest.raises(RoleRefused, match="row-level security does not hold for it"):
                async with database.transaction() as tx:
                    await tx.fetchval("SELECT 1")
        async with owner.transaction() as tx:
            await tx.execute("ALTER TABLE job ENABLE ROW LEVEL SECURITY")
