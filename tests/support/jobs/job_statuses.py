"""Job statuses as they are read from the database, made without one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schema.common import ids
from schema.jobs.queries import JobStatus
from schema.jobs.tables import FINAL_STATES, JobKind, JobState
from tests.support.subjects import ADA_ID

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


HUB_URL = "https://huggingface.co"


def make_status(**overrides: Any) -> JobStatus:
    """A job as it is read; keyword arguments override its columns."""
    columns: dict[str, Any] = {
        "id": ids.new_id(),
        "subject_id": ADA_ID,
        "kind": JobKind.HUB_JOB,
        "namespace": "ada",
        "title": "python:3.12: true",
        "labels": {},
        "state": JobState.QUEUED,
        "version": 1,
        "attempt": 0,
        "tries": 0,
        "due_at": None,
        "cancel_requested_at": None,
        "reason": None,
        "message": None,
        "exit_code": None,
        "created_at": NOW - timedelta(seconds=5),
        "started_at": None,
        "finished_at": None,
        "spec": {"flavor": "cpu-basic", "timeout": 1800.0},
        "hold": None,
        "remote_id": None,
        "stage": None,
        "seen_at": None,
        "stopping": False,
        "read_at": NOW,
    }
    values = columns | overrides
    if values["state"] in FINAL_STATES:
        values |= {"finished_at": values["finished_at"] or NOW}
    return JobStatus.model_validate(values)
