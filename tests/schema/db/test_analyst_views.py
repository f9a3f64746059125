"""What people ask by SQL: the page's own queries, on jobs in every state, as an analyst."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole
from schema.common import ids as common_ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs import queries as job_queries
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from schema.workspaces import store as workspace_store
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_costs import TEN_CENT_RATE
from tests.support.paths import DOCS
from tests.support.subjects import EVE_ID

VIEWS: Final = ("v_job", "v_job_timeline", "v_workspace_cost", "v_subject_usage")
PAGE: Final = (DOCS / "sql.md").read_text("utf-8")
QUERIES: Final = dict(re.findall(r"```sql name=(\w+)\n(.*?)```", PAGE, re.DOTALL))
(LOGIN,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
A_JOB: Final = "job_01kz3q6x2mf2s8v5c0a7r4t9hn"
PROMPT: Final = "s3cret-prompt"

Jobs = dict[str, UUID]


@pytest.fixture
async def jobs_by_state(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> Jobs:
    """A job of Ada's in every state, and one whose run is being stopped; her token is refused."""
    made: Jobs = {}
    workspace = common_ids.new_id()
    async with database.transaction() as tx:
        await workspace_store.create_workspace(tx, ada_id, workspace, "llama", client="cursor 3")
    spec = {"image": "i", "command": [PROMPT], "env": {"A": PROMPT}, "flavor": "a10g-small"}

    async def run(name: str, *, ending: RunResult | None = None, **overrides: Any) -> None:
        job = await make_job(**{"spec": spec, "workspace_id": workspace, **overrides})
        made[name] = job.id
        (run,) = await claim_jobs()
        async with database.transaction() as tx:
            await run_launch.record_remote_id(
                tx,
                run.run_id,
                remote_id=f"r-{name}",
                stage="RUNNING",
                worker="w1",
                poll_after=timedelta(0),
            )
            await tx.execute(
                "UPDATE job SET started_at = now() - interval '1 hour', version = version + 1"
                " WHERE id = $1",
                job.id,
            )
            await tx.execute(
                "INSERT INTO job_event (job_id, version, kind, state, actor)"
                " SELECT id, version, 'stage', state, 'w1' FROM job WHERE id = $1",
                job.id,
            )
            if ending:
                await run_end.end_run(tx, run.run_id, ending, worker="w1")

    await run("succeeded", ending=RunResult(JobState.SUCCEEDED, "COMPLETED"))
    await run("failed", ending=RunResult(JobState.FAILED, "ERROR", Reason.OOM, PROMPT))
    await run("running")
    await run("stopping")
    made["launching"] = (await make_job(spec=spec)).id
    (refused,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, refused.run_id, reason=None, message=PROMPT, worker="w1"
        )
    await claim_jobs()
    call = {"model": "a/model", "inputs": [{"role": "user", "content": PROMPT}]}
    made["queued"] = (await make_job(kind=JobKind.INFERENCE, title="a/model", spec=call)).id
    made["cancelled"] = (await make_job(spec=spec, client="cursor 3")).id
    async with database.transaction() as tx:
        for name in ("stopping", "cancelled"):
            await lifecycle.cancel_job(tx, made[name], subject_id=ada_id, client="claude-ai 1.2")
        await credentials.mark_credential_refused(tx, ada_id, version=1)
    return made


async def run_query(url: str, query: str) -> list[dict[str, Any]]:
    async with (
        Database(url, application_name="tests", role=DatabaseRole.ANALYST) as analyst,
        analyst.transaction() as tx,
    ):
        return [dict(row) for row in await tx.fetch(query)]


@pytest.mark.parametrize("name", sorted(QUERIES))
async def test_a_query_of_the_page_is_answered(
    database_url: str, jobs_by_state: Jobs, name: str
) -> None:
    """People paste what they read; a page that has fallen behind is worse than none."""
    query = QUERIES[name].replace(A_JOB, job_handle(jobs_by_state["failed"]))

    assert await run_query(database_url, query) != []


async def test_the_page_answers_what_it_is_asked(database_url: str, jobs_by_state: Jobs) -> None:
    """A query that runs may still answer another question."""
    answers = {
        name: await run_query(
            database_url, query.replace(A_JOB, job_handle(jobs_by_state["failed"]))
        )
        for name, query in QUERIES.items()
    }

    held = [job_handle(jobs_by_state[name]) for name in ("running", "launching", "queued")]
    assert [row["handle"] for row in answers["waiting"]] == held
    assert {(row["handle"], row["why"]) for row in answers["stuck"]} == {
        (job_handle(jobs_by_state["launching"]), "credentials"),
        (job_handle(jobs_by_state["queued"]), "credentials"),
        (job_handle(jobs_by_state["stopping"]), "upstream: stopping"),
    }
    assert [(row["reason"], row["jobs"]) for row in answers["failures"]] == [("oom", 1)]
    assert {(row["handle"], row["subject"], row["client"]) for row in answers["cancels"]} == {
        (job_handle(jobs_by_state[name]), "ada", "claude-ai 1.2")
        for name in ("stopping", "cancelled")
    }
    (busiest,) = answers["flavors"]
    assert busiest["flavor"] == "a10g-small"
    assert 4 * 3600 <= busiest["run_seconds"] < 4 * 3600 + 120
    assert [(row["flavor"], row["jobs"]) for row in answers["spent"]] == [
        ("a10g-small", 6),
        (None, 1),
    ]
    assert [row["event"] for row in answers["story"]] == [
        "created",
        "claimed",
        "bound",
        "stage",
        "ended",
    ]
    assert answers["story"][0]["since_previous"] is None
    assert all(row["since_previous"] is not None for row in answers["story"][1:])
    (workspace,) = answers["workspaces"]
    assert (workspace["workspace"], workspace["jobs"], workspace["unfinished"]) == ("llama", 4, 1)


async def test_a_job_is_shown_as_its_subject_sees_it(
    database: Database, database_url: str, ada_id: str, jobs_by_state: Jobs
) -> None:
    """Whoever compares the table with the chat finds the same handle, state and remote side."""
    rows = {row["handle"]: row for row in await run_query(database_url, "SELECT * FROM v_job")}

    async with database.transaction() as tx:
        for name, job_id in jobs_by_state.items():
            status = await job_queries.get_job_status(tx, ada_id, job_id)
            assert status is not None
            row = rows[job_handle(job_id)]
            assert (row["state"], row["reason"], row["upstream"]) == (
                status.state,
                status.reason,
                status.upstream,
            ), name
            assert row["remote_id"] == status.remote_id
    assert {row["upstream"] for row in rows.values()} == {"none", "live", "stopping", "stopped"}


@pytest.mark.parametrize(
    ("ran", "cost_usd"),
    [("-3 hours", "0.01"), ("0", "0.01"), ("61 seconds", "0.02"), ("5 hours", "0.1")],
)
async def test_the_cost_so_far_counts_each_started_minute(
    database: Database, database_url: str, make_job: JobFactory, ran: str, cost_usd: str
) -> None:
    """A start in the future is a clock that is ahead; what has started costs something."""
    await make_job(rate=TEN_CENT_RATE)
    async with database.transaction() as tx:
        await tx.execute(
            f"UPDATE job SET started_at = now() - interval '{ran}', version = version + 1"  # noqa: S608
        )
        await tx.execute(
            "INSERT INTO job_event (job_id, version, kind, state, actor)"
            " SELECT id, version, 'stage', state, 'w1' FROM job"
        )

    (row,) = await run_query(database_url, "SELECT cost_usd FROM v_job")

    assert row["cost_usd"] == Decimal(cost_usd)


async def test_handles_are_written_and_read_as_clients_hold_them(database: Database) -> None:
    """A handle out of a chat finds its row, in whatever case it was copied."""
    ids = [common_ids.new_id(), UUID(int=0), UUID(int=2**128 - 1), UUID(int=2**127 + 5)]
    async with database.transaction() as tx:
        for kind in HandleKind:
            for each in ids:
                written = await tx.fetchval("SELECT write_handle($1, $2)", kind, each)
                assert written == common_ids.format_handle(kind, each)
                copied = f" {written.upper()} "
                assert await tx.fetchval("SELECT read_handle($1)", copied) == each
        for wrong in ("job_", "job_8" + "0" * 25, "job_" + "u" * 26, "key_" + "0" * 26, "x"):
            assert await tx.fetchval("SELECT read_handle($1)", wrong) is None


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_shows_a_subject_their_own_rows_and_no_others(
    database_url: str, ada_id: str, jobs_by_state: Jobs, view: str
) -> None:
    """A view with the rights of its owner would be a hole in row-level security."""
    counts: list[int] = []
    for subject in (ada_id, EVE_ID, None):
        async with tenant_transaction(database_url, subject) as tx:
            counts.append(await tx.fetchval(f"SELECT count(*) FROM {view}"))  # noqa: S608

    assert counts[0] > 0
    assert counts[1:] == [0, 0]


@pytest.mark.parametrize("view", VIEWS)
async def test_no_view_shows_what_was_sent(
    database_url: str, jobs_by_state: Jobs, view: str
) -> None:
    """A request may hold what its subject tells nobody; upstream may repeat it."""
    rows = await run_query(database_url, f"SELECT * FROM {view}")  # noqa: S608

    assert rows
    assert PROMPT not in str(rows)
    assert "hf_ada" not in str(rows)


async def test_the_login_of_the_page_reads_and_writes_nothing(
    database: Database, database_url: str, jobs_by_state: Jobs
) -> None:
    """An operator pastes it; it must be enough, and no more."""
    place = urlsplit(database_url)
    url = urlunsplit(
        place._replace(netloc=f"reader:choose another@{place.hostname}:{place.port}")
    ).replace(" ", "%20")
    async with database.transaction() as tx:
        await tx.execute(LOGIN)
    try:
        async with Database(url, application_name="tests") as reader, reader.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM v_job") == len(jobs_by_state)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run_statements(url, "SELECT spec FROM job_payload")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await run_statements(url, "CREATE TEMP TABLE notes (note text)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run_statements(url, "SET default_transaction_read_only = off", "DELETE FROM job")
    finally:
        async with database.transaction() as tx:
            await tx.execute("DROP ROLE reader")


async def run_statements(url: str, *statements: str) -> None:
    connection: asyncpg.Connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
