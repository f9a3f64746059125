"""What is read of a subject's, with the comparison of the subject taken out of the statement (I5).

The statements themselves are the defence that `tests.mutants` tries; this is the one behind it. So
nothing here may depend on a statement having been written well.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from schema.billing.budgets import Rate
from schema.common import ids as common_ids
from schema.db.database import Database, Transaction
from schema.jobs.tables import JobKind
from tests.support.database.row_security import tenant_transaction
from tests.support.database.subject_statements import (
    find_subject_statements,
    order_arguments,
    without_subject_comparison,
)
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID, EVE_ID

OTHER_SUBJECT: Final = EVE_ID
JOB_PLACEHOLDER: Final = "the id of Ada's job"
JOBS_PLACEHOLDER: Final = "the ids of Ada's jobs"
ANY_ID_RANGE: Final = (UUID(int=0), UUID(int=2**128 - 1))
WORKSPACE_PLACEHOLDER: Final = "the id of her workspace"
SCHEDULE_PLACEHOLDER: Final = "the id of her schedule"
FIRED_AT_PLACEHOLDER: Final = "when it fired"
TARGET_PLACEHOLDER: Final = "the id of the target of her webhook"
URL_SHA: Final = sha256(b"https://example.com/hook?key=s").digest()
"""Of the URL of her webhook."""
UPLOAD_PLACEHOLDER: Final = "the id of her upload"
UPLOADS_PLACEHOLDER: Final = "the ids of her uploads"

LOG_ARGUMENTS: Final[dict[str, Any]] = {
    "subject_id": OTHER_SUBJECT,
    "job_id": JOB_PLACEHOLDER,
    "start": 0,
    "max_bytes": 1000,
}
LIST_ARGUMENTS: Final[dict[str, Any]] = {
    "subject_id": OTHER_SUBJECT,
    **dict.fromkeys(("before", "workspace_id", "states", "kind", "rerun_of", "schedule_id")),
    **dict.fromkeys(("since", "since_ago", "until", "until_ago")),
    "limit": 10,
}
SEARCH_ARGUMENTS: Final[dict[str, Any]] = LIST_ARGUMENTS | {
    "patterns": ["t"],
    "max_searched": 10,
    "max_bytes": 1000,
}
READ_ARGUMENTS: Final[dict[str, list[Any] | dict[str, Any]]] = {
    "jobs.queries._GET_JOB_STATUS": {"subject_id": OTHER_SUBJECT, "job_id": JOB_PLACEHOLDER},
    "jobs.queries._LIST_JOBS": LIST_ARGUMENTS,
    "jobs.queries._LIST_LABELLED_JOBS": LIST_ARGUMENTS | {"labels": {"team": "nlp", "run": "1"}},
    "jobs.search._SEARCH_JOBS": SEARCH_ARGUMENTS,
    "jobs.search._SEARCH_LABELLED_JOBS": SEARCH_ARGUMENTS | {"labels": {"team": "nlp", "run": "1"}},
    "jobs.queries._GET_JOB_RESULT": [OTHER_SUBJECT, JOB_PLACEHOLDER],
    "jobs.queries._LIST_JOB_EVENTS": [OTHER_SUBJECT, JOB_PLACEHOLDER, 10],
    "jobs.queries._LIST_LATEST_EVENTS": [OTHER_SUBJECT, JOB_PLACEHOLDER, 10],
    "workspaces.store._LIST_WORKSPACES": [OTHER_SUBJECT, None, 10, True],
    "workspaces.store._GET_WORKSPACE": [OTHER_SUBJECT, WORKSPACE_PLACEHOLDER],
    "workspaces.store._FIND_WORKSPACE_BY_NAME": [OTHER_SUBJECT, "hers"],
    "jobs.queries._FIND_IDEMPOTENCY_KEY": [OTHER_SUBJECT, "k"],
    "jobs.queries._GET_SUBJECT_STATUS": [OTHER_SUBJECT],
    "jobs.queries._GET_JOB_STATUSES": {"subject_id": OTHER_SUBJECT, "job_ids": JOBS_PLACEHOLDER},
    "artifacts.log_store._READ_EXCERPTS": {
        "subject_id": OTHER_SUBJECT,
        "job_ids": JOBS_PLACEHOLDER,
        "tail_lines": 20,
        "pattern": "line",
        "searched_lines": 100,
        "max_lines": 100,
        "max_line_chars": 100,
    },
    "batches.queries._COUNT_SUBJECT_ITEMS": [OTHER_SUBJECT, JOB_PLACEHOLDER],
    "batches.queries._LIST_ITEMS": {
        "subject_id": OTHER_SUBJECT,
        "job_id": JOB_PLACEHOLDER,
        "start": 0,
        "states": ["pending"],
        "limit": 10,
        "max_chars": 100,
    },
    "batches.queries._LIST_WHOLE_ITEMS": {
        "subject_id": OTHER_SUBJECT,
        "job_id": JOB_PLACEHOLDER,
        "start": 0,
        "limit": 10,
        "max_bytes": 1000,
    },
    "artifacts.files._LIST_JOB_FILES": [OTHER_SUBJECT, JOB_PLACEHOLDER],
    "artifacts.files._FIND_STORED_FILE": [OTHER_SUBJECT, JOB_PLACEHOLDER, "model.bin"],
    "artifacts.files._READ_FILE_BYTES": {
        "subject_id": OTHER_SUBJECT,
        "job_id": JOB_PLACEHOLDER,
        "name": "model.bin",
        "sha256": sha256(b"weights").hexdigest(),
        "start": 1,
        "length": 10,
    },
    "jobs.queries._LIST_UNSEEN_JOBS": LIST_ARGUMENTS | {"labels": {}},
    "artifacts.uploads._LIST_READY": [OTHER_SUBJECT, UPLOADS_PLACEHOLDER],
    "artifacts.uploads._READ_DECLARED_TYPE": [UPLOAD_PLACEHOLDER, OTHER_SUBJECT],
    "jobs.monitoring.changes._CHANGED_JOBS": [OTHER_SUBJECT, JOBS_PLACEHOLDER, [0], [99]],
    "jobs.monitoring.changes._READ_PAGE_VERSIONS": [OTHER_SUBJECT, JOBS_PLACEHOLDER, 10],
    "jobs.queries._FIND_JOB_IDS": [OTHER_SUBJECT, *ANY_ID_RANGE, 10],
    "jobs.queries._FIND_WORKSPACE_IDS": [OTHER_SUBJECT, *ANY_ID_RANGE, 10],
    "workspaces.store._FIND_OTHER_WORKSPACE": [OTHER_SUBJECT, "hers", JOB_PLACEHOLDER],
    "workspaces.store._GET_WORKSPACE_STATUS": [OTHER_SUBJECT, WORKSPACE_PLACEHOLDER],
    "artifacts.log_store._READ_LINES": LOG_ARGUMENTS | {"limit": 10},
    "artifacts.log_store._SEARCH_LINES": LOG_ARGUMENTS | {"text": "line", "limit": 10},
    "artifacts.log_store._SEARCH_END": LOG_ARGUMENTS,
    "artifacts.log_store._READ_EXTENT": [OTHER_SUBJECT, JOB_PLACEHOLDER],
    "workspaces.webhooks._FIND_TARGET": [OTHER_SUBJECT, URL_SHA],
    "workspaces.webhooks._LOCK_TARGET": [OTHER_SUBJECT, URL_SHA],
    "workspaces.webhooks._READ_HOST": [OTHER_SUBJECT, TARGET_PLACEHOLDER],
    "billing.budgets._WORKSPACE_BUDGET": [OTHER_SUBJECT, WORKSPACE_PLACEHOLDER],
    "schedules.store._FIND_BY_KEY": [OTHER_SUBJECT, "k"],
    "schedules.store._COUNT_SCHEDULES": [OTHER_SUBJECT],
    "schedules.store._GET_SCHEDULE": [OTHER_SUBJECT, SCHEDULE_PLACEHOLDER],
    "schedules.store._LIST_SCHEDULES": [OTHER_SUBJECT, None, 10],
    "schedules.store._LOCK_SCHEDULE": [OTHER_SUBJECT, SCHEDULE_PLACEHOLDER],
    "schedules.store._IS_KNOWN_SCHEDULE": [OTHER_SUBJECT, SCHEDULE_PLACEHOLDER],
    "schedules.store._GET_FIRING": [OTHER_SUBJECT, SCHEDULE_PLACEHOLDER, FIRED_AT_PLACEHOLDER],
    "jobs.lifecycle._SELECT_SUBMITTED_JOB": [OTHER_SUBJECT, "k", None],
    "jobs.lifecycle._COUNT_OPEN_JOBS": [OTHER_SUBJECT],
    "jobs.lifecycle._LOCK_JOBS": [JOBS_PLACEHOLDER, OTHER_SUBJECT],
    "jobs.lifecycle._CANCEL_JOBS": [JOBS_PLACEHOLDER, OTHER_SUBJECT, None, None],
}
"""Each statement that names a subject, and what it is given."""
TESTED_ELSEWHERE: Final = {
    "jobs.queries._STATUS_SELECT",  # the beginning of one other
    "jobs.queries._SHORT_STATUS_SELECT",  # a part of three others
    "artifacts.log_store._SEARCHED_CHUNKS",  # inside two others
    "jobs.queries.RAREST_LABEL_SQL",  # the same
    "jobs.queries.LABELLED_JOBS_SQL",  # the same
    "schedules.store._STATUS_SELECT",  # the beginning of two others
    "schedules.store._LOCK_SUBJECT",  # says nothing; in a test of its own
    "schedules.store._UPDATE_SCHEDULE",  # writes; in a test of its own
    "schedules.store._DELETE_SCHEDULE",  # the same
    "jobs.lifecycle._SUBMIT_JOB",  # writes; in tests of its own
    "workspaces.store._UPDATE_WORKSPACE",  # the same
    "workspaces.webhooks._SET_WORKSPACE_TARGET",  # the same
    "jobs.monitoring.changes._MARK_SEEN",  # writes; in `test_row_security`
    "jobs.monitoring.changes._STAMP_PAGE",  # the same
    "jobs.monitoring.changes._ACKNOWLEDGE_PAGE",  # the same
    "batches.queries._COPY_ITEMS",  # the same, in `test_batch_pages`
    "billing.spending._READ_SPENDING",  # sums as well; in `test_spending`
    "billing.budgets._MONTHLY_BUDGET",  # sums, so there is always a row; in a test of its own
    "billing.budgets._LOCK_SUBJECT",  # as a worker
    "artifacts.uploads._LOCK_SUBJECT",  # says nothing
    "artifacts.uploads._USED_SQL",  # a part of two others
    "artifacts.uploads._READ_USAGE",  # sums, so there is always a row; in a test of its own
    "artifacts.uploads._CREATE_UPLOAD",  # writes a row of its own; in a test of its own
    "artifacts.uploads._BEGIN_RECEIVING",  # writes; in a test of its own
    "artifacts.uploads._APPEND_CHUNK",  # the same
    "artifacts.uploads._FINISH_RECEIVING",  # the same
    "artifacts.uploads._ABANDON_RECEIVING",  # the same
    "artifacts.uploads._PIN_UPLOADS",  # the same
}


async def fetch_without_comparison(
    tx: Transaction, name: str, ids: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run a careless statement; a count of nothing is nothing."""
    arguments = [
        ids.get(argument, argument) if isinstance(argument, str) else argument
        for argument in order_arguments(name, READ_ARGUMENTS[name])
    ]
    rows: Sequence[Any] = await tx.fetch(without_subject_comparison(name), *arguments)
    return [shown for row in rows if (shown := tuple(row.values())) != (0,)]


@pytest.fixture
async def ids_of_ada(database: Database, row_in_every_table: None) -> dict[str, Any]:
    """Ada's job that ran, or the open one, and her workspace."""
    async with database.transaction() as tx:
        return {
            "ran": await tx.fetchval("SELECT id FROM job WHERE finished_at IS NOT NULL"),
            "open": await tx.fetchval("SELECT id FROM job WHERE finished_at IS NULL"),
            WORKSPACE_PLACEHOLDER: await tx.fetchval("SELECT id FROM workspace"),
            SCHEDULE_PLACEHOLDER: await tx.fetchval("SELECT id FROM schedule"),
            TARGET_PLACEHOLDER: await tx.fetchval("SELECT id FROM webhook_target"),
            UPLOAD_PLACEHOLDER: await tx.fetchval("SELECT id FROM upload"),
            UPLOADS_PLACEHOLDER: [await tx.fetchval("SELECT id FROM upload")],
            FIRED_AT_PLACEHOLDER: await tx.fetchval("SELECT fire_at FROM schedule_firing"),
        }


def test_every_statement_is_tried_without_its_subject_comparison() -> None:
    """One that is not tried here might be the one that row-level security does not stand behind."""
    assert find_subject_statements().keys() == READ_ARGUMENTS.keys() | TESTED_ELSEWHERE


@pytest.mark.parametrize("name", READ_ARGUMENTS)
async def test_a_statement_that_forgets_whose_finds_nothing_of_anybody_elses(
    database: Database, database_url: str, ids_of_ada: dict[str, Any], name: str
) -> None:
    """If a WHERE is forgotten, Postgres shows nothing; without row-level security it would."""
    job = ids_of_ada["open" if name.startswith("jobs.lifecycle") else "ran"]
    identifiers = ids_of_ada | {JOB_PLACEHOLDER: job, JOBS_PLACEHOLDER: [job]}
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = await fetch_without_comparison(tx, name, identifiers)
    async with tenant_transaction(database_url, None) as tx:
        by_nobody = await fetch_without_comparison(tx, name, identifiers)
    async with database.transaction() as tx:
        outside = await fetch_without_comparison(tx, name, identifiers)

    assert (seen, by_nobody) == ([], [])
    assert outside, "the statement still compares, so nothing was shown"


def submission_arguments(job_id: Any, subject_id: str, *parents: UUID) -> list[Any]:
    """Ask for what Ada's open job asks for."""
    spec = {"image": "python:3.12", "command": ["true"]}
    submission: dict[str, Any] = {
        "acting_subject_id": None,
        "job_id": job_id,
        "subject_id": subject_id,
        "workspace_id": None,
        "kind": JobKind.HUB_JOB,
        "namespace": "ada",
        "title": "t",
        "labels": {},
        "spec": spec,
        "idempotency_key": None,
        "secrets_digest": None,
        "max_open_jobs": 1000,
        "client": None,
        "request_id": None,
        "traceparent": None,
        "price_micro_usd": 1,
        "ceiling_micro_usd": 2,
        "most_micro_usd": None,
        "default_monthly_budget": None,
        "rerun_of": None,
        "parent_ids": parents,
        "dependency_condition": "success",
        "schedule_id": None,
    }
    return order_arguments("jobs.lifecycle._SUBMIT_JOB", submission)


async def test_a_submission_that_forgets_whose_finds_no_earlier_one_of_anybody_elses(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """That somebody asked for the same minutes ago would be told."""
    await make_job()
    first, second = common_ids.new_id(), common_ids.new_id()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = await tx.fetchrow(
            without_subject_comparison("jobs.lifecycle._SUBMIT_JOB"),
            *submission_arguments(first, EVE_ID),
        )
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job WHERE id = $1", first)
        await tx.execute("DELETE FROM spending WHERE subject_id = $1", EVE_ID)
        await tx.execute("UPDATE subject SET queued = 0 WHERE id = $1", EVE_ID)
        outside = await tx.fetchrow(
            without_subject_comparison("jobs.lifecycle._SUBMIT_JOB"),
            *submission_arguments(second, EVE_ID),
        )

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
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    refused_id = common_ids.new_id()
    refused = submission_arguments(refused_id, EVE_ID, foreign.id)
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = await tx.fetchrow(without_subject_comparison("jobs.lifecycle._SUBMIT_JOB"), *refused)
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job WHERE id = $1", refused_id)
        outside = await tx.fetchrow(
            without_subject_comparison("jobs.lifecycle._SUBMIT_JOB"),
            *submission_arguments(common_ids.new_id(), EVE_ID, foreign.id),
        )

        await tx.execute("DELETE FROM job WHERE subject_id = $1", EVE_ID)
        await tx.execute("DELETE FROM spending WHERE subject_id = $1", EVE_ID)
        await tx.execute("UPDATE subject SET queued = 0 WHERE id = $1", EVE_ID)

    assert seen is not None
    assert outside is not None
    assert not seen["related"]
    assert outside["related"], "the statement still compares"


async def test_a_month_without_subject_comparison_is_nobody_elses(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """How much another spends is theirs to know."""
    await make_job(rate=Rate(5, timedelta(minutes=1)))
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = await tx.fetchrow(
            without_subject_comparison("billing.budgets._MONTHLY_BUDGET"), EVE_ID, None
        )
    async with database.transaction() as tx:
        outside = await tx.fetchrow(
            without_subject_comparison("billing.budgets._MONTHLY_BUDGET"), EVE_ID, None
        )

    assert seen is not None
    assert outside is not None
    assert seen["held_micro_usd"] == 0
    assert outside["held_micro_usd"] == 5, "the statement still compares"


async def test_a_change_that_forgets_whose_changes_nothing_of_anybody_elses(
    database: Database, database_url: str, ids_of_ada: dict[str, Any]
) -> None:
    """An archived workspace would stop somebody's work."""
    change = order_arguments(
        "workspaces.store._UPDATE_WORKSPACE",
        {
            "subject_id": OTHER_SUBJECT,
            "workspace_id": ids_of_ada[WORKSPACE_PLACEHOLDER],
            "name": "mine",
            "defaults": {},
            "sets_confirmation": False,
            "confirm_above_micro_usd": None,
            "sets_budget": False,
            "budget_micro_usd": None,
            "archived": True,
            "client": None,
            "handle": "ws_x",
        },
    )
    careless_change = without_subject_comparison("workspaces.store._UPDATE_WORKSPACE")
    for subject in (EVE_ID, None):
        async with tenant_transaction(database_url, subject) as tx:
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
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await tx.fetchrow(
                str(find_subject_statements()["jobs.lifecycle._SUBMIT_JOB"]),
                *submission_arguments(common_ids.new_id(), ADA_ID),
            )

    async with database.transaction() as tx:
        assert [row["id"] for row in await tx.fetch("SELECT id FROM job")] == [job.id]
