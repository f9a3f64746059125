"""The plans of the hot statements: which index each reads, and that none reads a large table whole.

Postgres plans for the role that runs a statement, since row-level security adds to it, and for a
statement that ran five times on a connection it may use one plan for all arguments (`generic`). So
each statement is planned as its own role, and in both ways.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
import pytest

from schema.accounts.row_security import DatabaseRole
from schema.billing import spending
from schema.billing.budgets import Rate
from schema.billing.spending import SpendingDimension, SpendingQuery
from schema.common.errors import Unavailable
from schema.db.database import Transaction
from schema.jobs import (
    deadlines,
    dependencies,
    lifecycle,
    queries,
    run_end,
    run_launch,
    search,
    work_queues,
)
from schema.jobs.monitoring import changes
from schema.jobs.queries import JobFilter
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from schema.jobs.work_queues import PollLease
from schema.schedules import firing
from schema.workspaces import webhook_queue
from schema.workspaces.webhook_queue import RetryRules, TargetLease
from tests.support.database.busy_database import BUSY_SUBJECT, busy_database

LARGE_TABLES: Final = {
    *("job", "job_cost", "job_event", "job_label", "job_payload", "remote_run"),
    *("unseen_job", "webhook_delivery"),
}
MINUTE: Final = timedelta(minutes=1)
WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Ids:
    """Rows of the busy subject."""

    jobs: list[UUID]
    """Twenty jobs, the newest first."""
    run: UUID
    """A bound run."""


class Recorder:
    """A transaction that notes statements and finds no rows."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, tuple[object, ...]]] = []

    async def execute(self, query: str, *args: object) -> str:
        self.statements.append((query, args))
        return ""

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]:
        self.statements.append((query, args))
        return []

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        self.statements.append((query, args))
        return None

    async def fetchval(self, query: str, *args: object) -> Any:
        self.statements.append((query, args))


@dataclass(frozen=True, slots=True)
class HotCall:
    """A call whose statements are hot, and the indexes that they have to read."""

    role: DatabaseRole
    run: Callable[[Transaction, Ids], Awaitable[object]]
    indexes: frozenset[str]


def as_tenant(run: Callable[[Transaction, Ids], Awaitable[object]], *indexes: str) -> HotCall:
    return HotCall(DatabaseRole.TENANT, run, frozenset(indexes))


def as_worker(run: Callable[[Transaction, Ids], Awaitable[object]], *indexes: str) -> HotCall:
    return HotCall(DatabaseRole.WORKER, run, frozenset(indexes))


async def submit(
    tx: Transaction, parent_ids: Sequence[UUID] = (), *, idempotency_key: str | None = None
) -> None:
    await lifecycle.submit_job(
        tx,
        subject_id=BUSY_SUBJECT,
        kind=JobKind.HUB_JOB,
        namespace="name",
        title="python:3.12",
        spec={"image": "python:3.12"},
        labels={},
        max_open_jobs=1000,
        rate=Rate(1, MINUTE),
        parent_ids=parent_ids,
        idempotency_key=idempotency_key,
    )


async def list_jobs(
    tx: Transaction,
    *,
    states: list[JobState] | None = None,
    labels: dict[str, str] | None = None,
    before: UUID | None = None,
    unseen: bool = False,
) -> None:
    job_filter = JobFilter(
        workspace_id=None, states=states, kind=None, labels=labels or {}, unseen=unseen
    )
    await queries.list_jobs(tx, BUSY_SUBJECT, job_filter, before=before, limit=20)


async def search_jobs(
    tx: Transaction, word: str, *, labels: dict[str, str] | None = None, max_searched: int = 10_000
) -> None:
    job_filter = JobFilter(None, None, None, labels or {}, words=[word])
    await search.search_jobs(
        tx, BUSY_SUBJECT, job_filter, before=None, limit=20, max_searched=max_searched
    )


async def read_spending(tx: Transaction, **query: Any) -> None:
    query["dimensions"] = [SpendingDimension.WORKSPACE, SpendingDimension.DAY]
    await spending.read_spending(
        tx, BUSY_SUBJECT, SpendingQuery(**query), default_monthly_budget=None, limit=100
    )


HOT_CALLS: Final[Mapping[str, HotCall]] = {
    "submit": as_tenant(lambda tx, _: submit(tx), "ix_job_digest"),
    "submit with a key": as_tenant(
        lambda tx, _: submit(tx, idempotency_key="key"), "pk_idempotency_key", "pk_job_payload"
    ),
    "submit after others": as_tenant(
        lambda tx, ids: submit(tx, ids.jobs), "ix_job_digest", "ix_job_list"
    ),
    "cancel": as_tenant(
        lambda tx, ids: lifecycle.cancel_job(tx, ids.jobs[0], subject_id=BUSY_SUBJECT),
        *("pk_job", "ix_remote_run_job_id"),
    ),
    "status of one job": as_tenant(
        lambda tx, ids: queries.get_job_status(tx, BUSY_SUBJECT, ids.jobs[0]),
        *("pk_job", "pk_job_payload", "ix_job_queue", "one_run_an_attempt"),
        "pk_webhook_delivery",
    ),
    "status of several jobs": as_tenant(
        lambda tx, ids: queries.get_job_statuses(tx, BUSY_SUBJECT, ids.jobs),
        *("pk_job_payload", "ix_job_queue", "one_run_an_attempt"),
    ),
    "first page of jobs": as_tenant(
        lambda tx, _: list_jobs(tx), "ix_job_list", "one_run_an_attempt"
    ),
    "next page of jobs": as_tenant(
        lambda tx, ids: list_jobs(tx, before=ids.jobs[-1]), "ix_job_list"
    ),
    "jobs by label": as_tenant(
        lambda tx, _: list_jobs(tx, labels={"team": "nlp"}), "ix_job_label_find"
    ),
    "unseen jobs": as_tenant(
        lambda tx, _: list_jobs(tx, unseen=True), "ix_unseen_job_list", "pk_job"
    ),
    "a page of unseen jobs": as_tenant(
        lambda tx, ids: changes.stamp_page(tx, BUSY_SUBJECT, ids.jobs), "pk_unseen_job"
    ),
    "due webhooks": as_worker(
        lambda tx, _: webhook_queue.lease_targets(tx, limit=32, per_subject=4, lease=MINUTE),
        *("ix_webhook_delivery_due",),
    ),
    "the next delivery of a webhook": as_worker(
        lambda tx, ids: webhook_queue.begin_attempt(
            tx,
            TargetLease(ids.run, BUSY_SUBJECT, datetime.now(UTC)),
            RetryRules(MINUTE, WEEK, WEEK),
        ),
        *("ix_webhook_delivery_due", "pk_job"),
    ),
    "jobs by state": as_tenant(
        lambda tx, _: list_jobs(tx, states=[JobState.QUEUED, JobState.RUNNING]), "ix_job_list"
    ),
    "jobs by word": as_tenant(
        lambda tx, _: search_jobs(tx, "Python"), "ix_job_list", "pk_job_payload"
    ),
    "jobs by word and label": as_tenant(
        lambda tx, _: search_jobs(tx, "Python", labels={"team": "nlp"}),
        *("ix_job_label_find", "pk_job_payload"),
    ),
    "spending of a month": as_tenant(lambda tx, _: read_spending(tx), "ix_job_list", "pk_job_cost"),
    "spending of a workspace in some days": as_tenant(
        lambda tx, ids: read_spending(tx, since=WEEK, workspace_id=ids.jobs[0]),
        "pk_job_cost",
    ),
    "changed jobs": as_tenant(
        lambda tx, ids: changes.changed_jobs(
            tx, BUSY_SUBJECT, dict.fromkeys(ids.jobs, 1), dict.fromkeys(ids.jobs, 99)
        ),
        *("pk_job_event",),
    ),
    "claim": as_worker(
        lambda tx, _: run_launch.claim(
            tx, JobKind.HUB_JOB, limit=10, worker="w1", lease=MINUTE, settle_window=MINUTE
        ),
        *("ix_job_queue", "pk_job", "pk_job_payload"),
    ),
    "record a remote id": as_worker(
        lambda tx, ids: run_launch.record_remote_id(
            tx, ids.run, remote_id="r", stage="RUNNING", worker="w1", poll_after=MINUTE
        ),
        *("pk_job", "pk_remote_run"),
    ),
    "end a run": as_worker(
        lambda tx, ids: run_end.end_run(
            tx, ids.run, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w1"
        ),
        *("pk_job", "pk_remote_run"),
    ),
    "due queues": as_worker(
        lambda tx, _: work_queues.find_due_queues(tx), "ix_job_due", "ix_remote_run_due"
    ),
    "due runs": as_worker(
        lambda tx, _: work_queues.lease_due_runs(tx, limit=10, lease=MINUTE),
        *("ix_remote_run_due", "pk_remote_run"),
    ),
    "due schedules": as_worker(
        lambda tx, _: firing.lease_due_schedules(tx, limit=10, lease=MINUTE), "ix_schedule_due"
    ),
    "bound runs of a poll group": as_worker(
        lambda tx, _: work_queues.list_bound_runs(tx, [PollLease(BUSY_SUBJECT, "name", epoch=1)]),
        *("ix_remote_run_live",),
    ),
    "ends of polls": as_worker(
        lambda tx, _: work_queues.finish_polls(
            tx,
            [PollLease(BUSY_SUBJECT, "name", epoch=1)],
            min_interval=MINUTE,
            max_interval=MINUTE,
        ),
        *("ix_remote_run_live",),
    ),
    "lapsed runs": as_worker(lambda tx, _: work_queues.find_lapsed_runs(tx), "ix_remote_run_due"),
    "jobs whose parents ended": as_worker(
        lambda tx, _: dependencies.release_waiting_jobs(tx, worker="w1"),
        *("ix_job_dependency_untold",),
    ),
    "a run past its deadline": as_worker(
        lambda tx, ids: deadlines.expire_run(
            tx, ids.run, reason=Reason.TIMED_OUT, message="It ran for too long.", worker="w1"
        ),
        *("pk_job", "pk_remote_run"),
    ),
    "abandoned jobs": as_worker(
        lambda tx, _: deadlines.fail_abandoned_jobs(tx, abandon_after=WEEK, worker="w1"),
        *("ix_job_queue", "ix_remote_run_live"),
    ),
    "absent runs": as_worker(
        lambda tx, _: deadlines.stop_watching_absent_runs(tx, worker="w1"), "ix_remote_run_watched"
    ),
}


@pytest.fixture(scope="module")
async def connection(postgres_url: str) -> AsyncGenerator[asyncpg.Connection]:
    async with busy_database(postgres_url) as opened:
        await opened.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )
        yield opened


async def record_statements(
    connection: asyncpg.Connection, hot_call: HotCall
) -> list[tuple[str, tuple[object, ...]]]:
    jobs = await connection.fetch(
        "SELECT id FROM job WHERE subject_id = $1 ORDER BY id DESC LIMIT 20", BUSY_SUBJECT
    )
    run_id: UUID = await connection.fetchval(
        "SELECT id FROM remote_run WHERE state = 'bound' LIMIT 1"
    )
    recorder = Recorder()
    # A call that needs a row ends so; what it ran is known by then.
    with suppress(Unavailable, AssertionError):
        await hot_call.run(recorder, Ids([row["id"] for row in jobs], run_id))
    return recorder.statements


async def plan_call(
    connection: asyncpg.Connection,
    hot_call: HotCall,
    *,
    generic: bool,
    analyze: bool = False,
    page_cost: int = 4,
) -> list[dict[str, Any]]:
    """Return the nodes of all plans of a call, for the role that runs it.

    Args:
        connection: to the busy database.
        hot_call: what is planned.
        generic: whether one plan has to do for all arguments.
        analyze: whether it is run as well.
        page_cost: of a page by an index, where one of those after the other costs 1.
    """
    nodes: list[dict[str, Any]] = []
    explain = "EXPLAIN (ANALYZE, FORMAT JSON)" if analyze else "EXPLAIN (FORMAT JSON)"
    for text, arguments in await record_statements(connection, hot_call):
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {hot_call.role}")
            await connection.execute(f"SET LOCAL holdfast.subject = '{BUSY_SUBJECT}'")
            await connection.execute(f"SET LOCAL random_page_cost = {page_cost}")
            if generic:
                await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                prepared = await connection.prepare(text)  # it is gone with this object
                # A generic plan does not read them, but running it does.
                values = ", ".join(write_literal(each) if analyze else "NULL" for each in arguments)
                execute = f'EXECUTE "{prepared.get_name()}"' + (f"({values})" if values else "")
                plan = await connection.fetchval(f"{explain} {execute}")
            else:
                plan = await connection.fetchval(f"{explain} {text}", *arguments)
        nodes += walk_nodes(json.loads(plan)[0]["Plan"])
    return nodes


def write_literal(argument: object) -> str:
    """Write a value of a filter of jobs as SQL."""
    match argument:
        case None:
            return "NULL"
        case int():
            return str(argument)
        case str():
            return f"'{argument}'"
        case list():
            return f"'{{{','.join(map(json.dumps, cast('list[str]', argument)))}}}'"
        case _:
            return f"'{json.dumps(argument)}'"


def walk_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk_nodes(child)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("name", HOT_CALLS)
async def test_a_hot_call_reads_its_indexes_and_no_large_table_whole(
    connection: asyncpg.Connection, name: str, *, generic: bool
) -> None:
    nodes = await plan_call(connection, HOT_CALLS[name], generic=generic)

    scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    read = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert not scanned & LARGE_TABLES
    assert read >= HOT_CALLS[name].indexes


@pytest.mark.parametrize("role", [DatabaseRole.WORKER, DatabaseRole.TENANT])
async def test_the_room_of_a_kind_is_counted_by_an_index(
    connection: asyncpg.Connection, role: DatabaseRole
) -> None:
    """A plan shows a function as one step, so its body is planned."""
    body = await connection.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'room_of_kind'")
    count_room = HotCall(
        role,
        lambda tx, _: tx.fetch(body, BUSY_SUBJECT, JobKind.HUB_JOB, 100),
        frozenset({"ix_remote_run_open"}),
    )

    nodes = await plan_call(connection, count_room, generic=False)

    assert {node["Index Name"] for node in nodes if "Index Name" in node} == count_room.indexes


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize(
    "labels", [{"experiment": "20"}, {"team": "nlp", "experiment": "20"}], ids=len
)
async def test_a_rare_label_is_looked_up_and_not_searched_for(
    connection: asyncpg.Connection, labels: dict[str, str], *, generic: bool
) -> None:
    """The busy subject has 8,000 jobs, 2,000 of them with the common label, and one with both.

    By an index a page costs so much that a walk through all jobs looks cheap, as it does to
    Postgres where there are a million of them.
    """
    by_label = HotCall(DatabaseRole.TENANT, lambda tx, _: list_jobs(tx, labels=labels), frozenset())

    nodes = await plan_call(connection, by_label, generic=generic, analyze=True, page_cost=400)

    read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes if "Index Name" in node]
    assert sum(read) < 1100  # as many as are counted of the common label, and those of one job
    jobs = [node for node in nodes if node.get("Relation Name") == "job"]
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in jobs) == 1


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("labels", [{}, {"team": "nlp"}], ids=len)
@pytest.mark.parametrize(("word", "expected"), [("PYTHON", 20), ("nowhere", 500)])
async def test_a_search_reads_until_its_page_is_full_and_no_more_than_it_may(
    connection: asyncpg.Connection,
    labels: dict[str, str],
    word: str,
    expected: int,
    *,
    generic: bool,
) -> None:
    """The busy subject has 8,000 jobs, and a word that none has would read them all."""
    search_call = HotCall(
        DatabaseRole.TENANT,
        lambda tx, _: search_jobs(tx, word, labels=labels, max_searched=500),
        frozenset(),
    )

    nodes = await plan_call(connection, search_call, generic=generic, analyze=True)

    read = [
        node["Actual Rows"] * node["Actual Loops"]
        for node in nodes
        if node.get("Relation Name") == "job_payload"
    ]
    assert read in ([expected], [expected + 1])  # it looks ahead by one
