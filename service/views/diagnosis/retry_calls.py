"""What may a job that failed be run again with? Calls that a model can make as they stand."""

import json
from datetime import timedelta
from typing import Any

from schema.common import ids
from schema.common.durations import format_duration
from schema.jobs.queries import JobStatus
from service.views.job_kinds import describe_kind


def format_retry_call(status: JobStatus, **overrides: Any) -> str:
    """Write the call that runs a job again; without brackets if a value in it is not known here."""
    handle = ids.format_handle(ids.HandleKind.JOB, status.id)
    more = f", overrides={json.dumps(overrides)}" if overrides else ""
    given = f'job_id="{handle}"{more}'
    if status.spec.get("secrets"):
        return f"retry_job with {given}, and its secrets given again"
    return f"retry_job({given})"


def longer_timeout(status: JobStatus) -> str | None:
    """Write a timeout twice as long, or the longest there is; none if it has that already."""
    seconds = status.spec.get("timeout")
    longest = describe_kind(status.kind).max_timeout
    if seconds is None or (given := timedelta(seconds=float(seconds))) >= longest:
        return None
    return format_duration(min(2 * given, longest))
