"""What is read of a subject's, with the comparison of the subject taken out of the statement (I5).

The statements themselves are the defence that `tests.mutants` tries; this is the one behind it. So
nothing here may depend on a statement having been written well.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from types import ModuleType
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from schema.artifacts import files, log_store
from schema.batches import queries as batch_queries
from schema.billing import budgets
from schema.billing.budgets import Rate
from schema.common import ids as common_ids
from schema.db.database import Database, Transaction
from schema.jobs import changes, lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobKind
from schema.schedules import store as schedule_store
from schema.workspaces import store as workspace_store
from tests.conftest import ADA, JobFactory
from tests.schema.wall import EVE, acting

MODULES: Final = (
    *(budgets, batch_queries, changes, files, job_queries, lifecycle, log_store),
    *(schedule_store, workspace_store),
)
"""Whose statements the service runs for a subject."""
COMPARISON: Final = re.compile(
    r"(?:\w+\.)?subject_id = (\$\d+)|(?<=FROM subject WHERE )id = (\$\d+)"
)

SUBJECT: Final = EVE
JOB: Final = "the id of Ada's job"
JOBS: Final = "the ids of Ada's jobs"
ANY: Final = (UUID(int=0), UUID(int=2**128 - 1))
WORKSPACE: Final = "the id of her workspace"
SCHEDULE: Final = "the id of her schedule"
FIRED_AT: Final = "when it fired"

READS: Final[dict[str, list[Any]]] = {
    "jobs.queries._ONE": [SUBJECT, JOB],
    "jobs.queries._SOME": [SUBJECT, *[None] * 4, {}, *[None] * 6, 10],
    "jobs.queries._RESULT": [SUBJECT, JOB],
    "workspaces.store._WORKSPACES": [SUBJECT, None, 10, True],
    "workspaces.store._WORKSPACE": [SUBJECT, WORKSPACE],
    "workspaces.store._NAMED": [SUBJECT, "hers"],
    "jobs.queries._HELD": [SUBJECT, "k"],
    "jobs.queries._STANDING": [SUBJECT],
    "jobs.queries._EACH": [SUBJECT, JOBS],
    "artifacts.log_store._TELLING": [SUBJECT, JOBS, 20, "line", 100, 100, 100],
    "batches.queries._TALLY": [SUBJECT, JOB],
    "batches.queries._PAGE": [SUBJECT, JOB, 0, ["pending"], 10, 100],
    "artifacts.files._OF_JOB": [SUBJECT, JOB],
    "artifacts.files._STORED": [SUBJECT, JOB, "model.bin"],
    "artifacts.files._PIECE": [SUBJECT, JOB, "model.bin", 1, 10, sha256(b"weights").hexdigest()],
    "jobs.changes._NEWS": [SUBJECT, JOBS, [0]],
    "jobs.changes._PAGES": [SUBJECT, JOBS, 10],
    "jobs.queries._JOBS": [SUBJECT, *ANY, 10],
    "jobs.queries._WORKSPACES": [SUBJECT, *ANY, 10],
    "workspaces.store._OTHER": [SUBJECT, "hers", JOB],
    "workspaces.store._ROLL_UP": [SUBJECT, WORKSPACE],
    "artifacts.log_store._READ": [SUBJECT, JOB, 0, 10, 1000],
    "artifacts.log_store._MATCHES": [SUBJECT, JOB, 0, 1000, "line", 10],
    "artifacts.log_store._LOOKED_UP_TO": [SUBJECT, JOB, 0, 1000],
    "artifacts.log_store._EXTENT": [SUBJECT, JOB],
    "billing.budgets._WORKSPACE": [SUBJECT, WORKSPACE],
    "schedules.store._HELD": [SUBJECT, "k"],
    "schedules.store._COUNT": [SUBJECT],
    "schedules.store._ONE": [SUBJECT, SCHEDULE],
    "schedules.store._PAGE": [SUBJECT, None, 10],
    "schedules.store._LOCK": [SUBJECT, SCHEDULE],
    "schedules.store._KNOWN": [SUBJECT, SCHEDULE],
    "schedules.store._FIRED": [SUBJECT, SCHEDULE, FIRED_AT],
    "jobs.lifecycle._KEPT": [SUBJECT, "k", None],
    "jobs.lifecycle._OPEN": [SUBJECT],
    "jobs.lifecycle._LOCK": [JOB, SUBJECT],
    "jobs.lifecycle._CANCEL": [JOB, SUBJECT, None],
}
"""Each statement that names a subject, and what it is given."""
ELSEWHERE: Final = {
    "jobs.queries._STATUS",  # the beginning of one other
    "jobs.queries._BRIEF",  # the beginning of two others
    "artifacts.log_store._LOOKED_AT",  # inside two others
    "schedules.store._SHOWN",  # the beginning of two others
    "schedules.store._LOCK_SUBJECT",  # says nothing; in a test of its own
    "schedules.store._CHANGE",  # writes; in a test of its own
    "schedules.store._DELETE",  # the same
    "jobs.lifecycle._SUBMIT",  # writes; in tests of its own
    "workspaces.store._CHANGE",  # the same
    "batches.queries._TAKE_OVER",  # the same, in `test_batch_pages`
    "billing.budgets._MONTH",  # sums, so there is always a row; in a test of its own
    "billing.budgets._LOCK_SUBJECT",  # as a worker
}


def statements() -> dict[str, str]:
    """Find every statement that compares a subject, by the name of its constant."""
    return {
        f"{module.__name__.removeprefix('schema.')}.{name}": text
        for module in MODULES
        for name, text in constants(module).items()
        if COMPARISON.search(text)
    }


def constants(module: ModuleType) -> Mapping[str, str]:
    return {name: value for name, value in vars(module).items() if isinstance(value, str)}


def careless(name: str) -> str:
    """Take the comparison out; what it compared with is still a parameter, and always true."""
    text, times = COMPARISON.subn(
        lambda it: f"{it[1] or it[2]}::text IS NOT NULL", statements()[name]
    )
    assert times
    return text


async def found(tx: Transaction, name: str, ids: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a careless statement; a count of nothing is nothing."""
    arguments = [ids.get(each, each) if isinstance(each, str) else each for each in READS[name]]
    rows: Sequence[Any] = await tx.fetch(careless(name), *arguments)
    return [shown for row in rows if (shown := tuple(row.values())) != (0,)]


@pytest.fixture
async def ids(database: Database, full: None) -> dict[str, Any]:
    """Ada's job that ran, or the open one, and her workspace."""
    async with database.transaction() as tx:
        return {
            "ran": await tx.fetchval("SELECT id FROM job WHERE finished_at IS NOT NULL"),
            "open": await tx.fetchval("SELECT id FROM job WHERE finished_at IS NULL"),
            WORKSPACE: await tx.fetchval("SELECT id FROM workspace"),
            SCHEDULE: await tx.fetchval("SELECT id FROM schedule"),
            FIRED_AT: await tx.fetchval("SELECT fire_at FROM schedule_firing"),
        }


def test_whoever_adds_a_statement_tries_it_without_its_comparison() -> None:
    """One that is not tried here might be the one that the wall does not stand behind."""
    assert statements().keys() == READS.keys() | ELSEWHERE


@pytest.mark.parametrize("name", READS)
async def test_a_statement_that_forgets_whose_finds_nothing_of_anybody_elses(
    database: Database, database_url: str, ids: dict[str, Any], name: str
) -> None:
    """Whatever WHERE is forgotten, Postgres shows nothing; outside the wall it would be shown."""
    job = ids["open" if name.startswith("jobs.lifecycle") else "ran"]
    given = ids | {JOB: job, JOBS: [job]}
    async with acting(database_url, EVE) as tx:
        seen = await found(tx, name, given)
    async with acting(database_url, None) as tx:
        by_nobody = await found(tx, name, given)
    async with database.transaction() as tx:
        outside = await found(tx, name, given)

    assert (seen, by_nobody) == ([], [])
    assert outside, "the statement still compares, so nothing was shown"


def submission(job_id: Any, subject_id: str, *parents: UUID) -> list[Any]:
    """Ask for what Ada's open job asks for."""
    spec = {"image": "python:3.12", "command": ["true"]}
    return [
        *(job_id, subject_id, None, JobKind.HUB_JOB, "ada", "t", {}, spec, None, 1000, None),
        *(1, 2, None, None, None, parents, "success", None),
    ]


async def test_a_submission_that_forgets_whose_finds_no_earlier_one_of_anybody_elses(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """That somebody asked for the same minutes ago would be told."""
    await make_job()
    first, second = common_ids.new_id(), common_ids.new_id()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE)
    async with acting(database_url, EVE) as tx:
        seen = await tx.fetchrow(careless("jobs.lifecycle._SUBMIT"), *submission(first, EVE))
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job WHERE id = $1", first)
        await tx.execute("DELETE FROM spending WHERE subject_id = $1", EVE)
        await tx.execute("UPDATE subject SET queued = 0 WHERE id = $1", EVE)
        outside = await tx.fetchrow(careless("jobs.lifecycle._SUBMIT"), *submission(second, EVE))

    assert seen is not None
    assert seen["possible_duplicate_of"] is None
    assert outside is not None
    assert outside["possible_duplicate_of"] is not None, "the statement still compares"


async def test_a_submission_that_forgets_whose_waits_for_nothing_of_anybody_elses(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """When a job of somebody else's ends would be told by when one's own begins."""
    foreign = await make_job()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE)
    asked = submission(common_ids.new_id(), EVE, foreign.id)
    async with acting(database_url, EVE) as tx:
        seen = await tx.fetchrow(careless("jobs.lifecycle._SUBMIT"), *asked)
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job WHERE id = $1", asked[0])
        outside = await tx.fetchrow(
            careless("jobs.lifecycle._SUBMIT"), *submission(common_ids.new_id(), EVE, foreign.id)
        )

        await tx.execute("DELETE FROM job WHERE subject_id = $1", EVE)
        await tx.execute("DELETE FROM spending WHERE subject_id = $1", EVE)
        await tx.execute("UPDATE subject SET queued = 0 WHERE id = $1", EVE)

    assert seen is not None
    assert outside is not None
    assert not seen["related"]
    assert outside["related"], "the statement still compares"


async def test_a_month_that_forgets_whose_is_nobody_elses(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """How much another spends is theirs to know."""
    await make_job(rate=Rate(5, timedelta(minutes=1)))
    async with acting(database_url, EVE) as tx:
        seen = await tx.fetchrow(careless("billing.budgets._MONTH"), EVE, None)
    async with database.transaction() as tx:
        outside = await tx.fetchrow(careless("billing.budgets._MONTH"), EVE, None)

    assert seen is not None
    assert outside is not None
    assert seen["held_micro_usd"] == 0
    assert outside["held_micro_usd"] == 5, "the statement still compares"


async def test_a_change_that_forgets_whose_changes_nothing_of_anybody_elses(
    database: Database, database_url: str, ids: dict[str, Any]
) -> None:
    """An archived workspace would stop somebody's work."""
    change: list[Any] = [SUBJECT, ids[WORKSPACE], "mine", {}, False, None, True, None, "ws_x"]
    change += [False, None]
    careless_change = careless("workspaces.store._CHANGE")
    for subject in (EVE, None):
        async with acting(database_url, subject) as tx:
            assert await tx.fetch(careless_change, *change) == []

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT name FROM workspace") == "hers"
        assert await tx.fetch(careless_change, *change), "the statement still compares"


async def test_nothing_is_submitted_in_somebody_elses_name(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """A caller mistaken for another would spend their money."""
    job = await make_job()

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with acting(database_url, EVE) as tx:
            await tx.fetchrow(
                statements()["jobs.lifecycle._SUBMIT"], *submission(common_ids.new_id(), ADA)
            )

    async with database.transaction() as tx:
        assert [row["id"] for row in await tx.fetch("SELECT id FROM job")] == [job.id]
