"""What is stored of a person is read out whole, and nothing of anybody else is."""

import json
from typing import Any

from schema.accounts import personal_data
from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database
from tests.support.database.subject_rows import read_rows_of
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID, BOB_ID, EVE_ID

FILES_BY_TABLE = {
    "audit_entry": "audit",
    "batch_item": "batch_items",
    "connected_account": "connected_accounts",
    "credential": "token",
    "idempotency_key": "idempotency_keys",
    "job": "jobs",
    "job_cost": "jobs",
    "job_dependency": "dependencies",
    "job_event": "events",
    "job_file": "files",
    "job_payload": "jobs",
    "job_upload": "job_uploads",
    "log_chunk": "logs",
    "remote_run": "runs",
    "schedule": "schedules",
    "schedule_firing": "schedule_firings",
    "spending": "spending",
    "subject": "account",
    "upload": "uploads",
    "usage_history": "usage_history",
    "webhook_delivery": "webhook_deliveries",
    "webhook_target": "webhook_targets",
    "workspace": "workspaces",
}
NOT_EXPORTED = {
    *("call_window", "job_label", "job_log", "job_secret", "poll_group"),
    *("restored_subject", "schedule_secret", "unseen_job", "upload_chunk", "webhook_secret"),
}
"""Counters of the machinery, what nobody but a worker may read, labels, which jobs have too,
and the bytes of files."""


async def read_export(database_url: str, subject_id: str) -> dict[str, list[dict[str, Any]]]:
    files: dict[str, list[dict[str, Any]]] = {}
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.TENANT
    ) as database:
        async for name, lines in personal_data.read_personal_data(database, subject_id):
            files.setdefault(name, []).extend(json.loads(line) for line in lines)
    return files


async def test_every_row_of_a_person_is_read_and_none_of_anybody_else(
    database: Database, database_url: str, rows_of_two: None
) -> None:
    """A table that is new has to be in it, or be left out by name."""
    stored = await read_rows_of(database, ADA_ID)

    files = await read_export(database_url, ADA_ID)

    assert set(stored) == set(FILES_BY_TABLE) | NOT_EXPORTED
    counts = {name: len(rows) for name, rows in files.items()}
    assert counts == {file: len(stored[table]) for table, file in FILES_BY_TABLE.items()}
    text = json.dumps(files)
    assert ADA_ID in text
    assert BOB_ID not in text
    assert "bob" not in text


async def test_no_token_and_no_secret_is_read(
    database: Database, database_url: str, rows_of_two: None
) -> None:
    """An archive travels by mail."""
    text = json.dumps(await read_export(database_url, ADA_ID))

    for word in ("hf_ada", "sealed", "token_sha", "secrets_digest"):
        assert word not in text


async def test_pages_follow_one_another_without_a_gap(
    database: Database, database_url: str, make_job: JobFactory
) -> None:
    """However many rows there are, each is read once."""
    jobs = [await make_job() for _ in range(45)]
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO job_event (job_id, version, kind, state, actor)
            SELECT job.id, number, 'stage', state, 'w' FROM job, generate_series(2, 30) AS number
            """
        )

    files = await read_export(database_url, ADA_ID)

    assert [job["id"] for job in files["jobs"]] == sorted(str(job.id) for job in jobs)
    versions = [(event["job_id"], event["version"]) for event in files["events"]]
    assert versions == sorted((str(job.id), version) for job in jobs for version in range(1, 31))
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM job_event WHERE version > 1")


async def test_of_nobody_nothing_is_read(database_url: str, rows_of_two: None) -> None:
    """Files are there, so that whoever reads the archive sees that nothing is stored."""
    files = await read_export(database_url, EVE_ID)

    assert set(files) == set(FILES_BY_TABLE.values())
    assert not any(files.values())
