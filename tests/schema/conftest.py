"""What a worker does to jobs, as fixtures."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from schema.accounts import call_counts, connections, credentials, restored_subjects, vault_keys
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.artifacts import files, log_store, uploads
from schema.artifacts.files import NewJobFile
from schema.batches import store as batch_store
from schema.billing import price_store
from schema.billing.budgets import Rate
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.monitoring import heartbeats
from schema.jobs.retention.pruning import prune_expired
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState
from schema.schedules import firing
from schema.schedules.firing import DueFiring
from schema.schedules.tables import FiringOutcome
from schema.settings import DEFAULT_LOG_BYTES
from schema.specs.batch import ItemRequest
from schema.specs.inputs.webhook_url import WebhookUrl
from schema.workspaces import store as workspace_store
from schema.workspaces import webhooks
from schema.workspaces.webhooks import NewTarget
from tests.support.factories import ClaimFactory, JobFactory, WorkspaceFactory
from tests.support.jobs import schedule_states
from tests.support.jobs.job_costs import DOLLAR_MICRO_USD
from tests.support.jobs.retention import uniform_periods
from tests.support.subjects import BOB_ID
from tests.support.uploads import store_upload


@pytest.fixture
def claim_jobs(database: Database) -> ClaimFactory:
    """Claim due jobs the way a worker does."""

    async def take(
        kind: JobKind = JobKind.HUB_JOB,
        *,
        limit: int = 10,
        lease: timedelta = timedelta(minutes=1),
        settle: timedelta = timedelta(0),
        held_slots: Mapping[str, int] | None = None,
    ) -> list[ClaimedJob]:
        async with database.transaction() as tx:
            return await run_launch.claim(
                tx,
                kind,
                limit=limit,
                worker="w1",
                lease=lease,
                settle_window=settle,
                held_slots=held_slots,
            )

    return take


@pytest.fixture
async def row_in_every_table(
    database: Database, vault: Vault, ada_id: str, make_job: JobFactory
) -> None:
    """Ada has a row in every table."""
    await fill_every_table(database, vault, ada_id, make_job)


@pytest.fixture
async def rows_of_two(
    database: Database, vault: Vault, row_in_every_table: None, make_job: JobFactory
) -> None:
    """Ada and Bob have a row in every table each."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=BOB_ID, name="bob", token=Secret("hf_bob"), expires_at=None
        )
    await fill_every_table(
        database, vault, BOB_ID, partial(make_job, subject_id=BOB_ID, namespace="bob")
    )


async def fill_every_table(
    database: Database, vault: Vault, subject_id: str, make_job: JobFactory
) -> None:
    """Make a row of a subject in every table."""
    deleted = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, deleted.id, subject_id=subject_id)
    async with database.transaction() as tx:
        day = timedelta(days=1)
        await prune_expired(tx, periods=replace(uniform_periods(day), jobs=timedelta(0)))
    finished = await make_job(rate=Rate(1, timedelta(minutes=1)))
    async with database.transaction() as tx:
        await workspace_store.create_workspace(tx, subject_id, ids.new_id(), "hers")
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle_window=timedelta(minutes=1),
        )
        await run_launch.record_remote_id(
            tx,
            claim.run_id,
            remote_id="r1",
            stage="RUNNING",
            worker="w1",
            poll_after=timedelta(0),
        )
        await log_store.append_lines(
            tx, claim.run_id, ["a line"], start_line=0, max_log_bytes=DEFAULT_LOG_BYTES
        )
        await run_end.end_run(
            tx, claim.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w1"
        )
        await batch_store.add_items(
            tx, finished.id, subject_id, [ItemRequest("1", {"inputs": "a river"})]
        )
        await files.save_files(
            tx, finished.id, [NewJobFile.from_content("model.bin", b"weights", None)]
        )
    open_job = await make_job(
        idempotency_key="k", parent_ids=[finished.id], labels={"team": "nlp", "run": "1"}
    )
    new_target = NewTarget.create(WebhookUrl.parse("https://example.com/hook?key=s"))
    async with database.transaction() as tx:
        target_id = await webhooks.name_target(tx, vault, subject_id, new_target)
        await webhooks.set_job_target(tx, open_job.id, subject_id, target_id)
        await sealed_secrets.save_job_secrets(
            tx, vault, open_job.id, subject_id, {"KEY": Secret("s")}
        )
        upload = await store_upload(tx, subject_id, b"sent")
        await uploads.pin_uploads(tx, subject_id, open_job.id, [upload.id])
        await price_store.save_price_list(tx, [])
        await heartbeats.record_heartbeat(
            tx,
            name="w1",
            version="1",
            key_marks=vault.key_marks,
            attempts=0,
            since_sweep=timedelta(0),
            last_error=None,
            is_first=True,
        )
        await connections.connect_account(
            tx,
            vault,
            sign_in_id=connections.hash_sign_in("https://id.example", subject_id),
            issuer="https://id.example",
            subject_id=subject_id,
            name=await tx.fetchval("SELECT name FROM subject WHERE id = $1", subject_id),
            tokens=connections.HubTokens(Secret("hf_oauth_of"), Secret("hf_oauth__refresh_of")),
            expires_in=timedelta(hours=8),
        )
        await call_counts.count_call(tx, subject_id, limit=10, window=timedelta(minutes=1))
        await vault_keys.compare_vault_keys(tx, vault)
    await schedule_states.make_schedule(
        database,
        vault,
        secrets={"KEY": Secret("s")},
        idempotency_key="k",
        subject_id=subject_id,
    )
    async with database.transaction() as tx:
        (taken,) = await firing.lease_due_schedules(tx, limit=1, lease=timedelta(minutes=1))
        due = DueFiring.from_schedule(taken)
        await firing.record_firing(tx, due, FiringOutcome.LAUNCHED, job_id=open_job.id)
        await restored_subjects.mark_restored(tx, backup_at=taken.read_at)
    assert finished.id != open_job.id


@pytest.fixture
def make_workspace(database: Database, ada_id: str) -> WorkspaceFactory:
    """Make a workspace of Ada's with a budget of a dollar, unless another is named."""

    async def make(budget: int | None = DOLLAR_MICRO_USD) -> UUID:
        workspace_id = ids.new_id()
        async with database.transaction() as tx:
            await workspace_store.create_workspace(
                tx, ada_id, workspace_id, workspace_id.hex, budget_micro_usd=budget
            )
        return workspace_id

    return make
