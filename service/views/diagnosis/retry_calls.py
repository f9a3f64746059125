"""Suggested `retry_job` calls, written so that a model can make them unchanged."""

import json
from datetime import timedelta
from typing import Any

from schema.common import ids
from schema.common.durations import format_duration
from schema.jobs.queries import JobStatus
from service.views.job_kinds import describe_kind


def format_retry_call(status: JobStatus, **overrides: Any) -> str:
    """Write the call that runs a job again.

    The values of secrets are not known here. A job with secrets gets a text without brackets, so
    that nobody takes it for the whole call.
    """
    handle = ids.format_handle(ids.HandleKind.JOB, status.id)
    overrides_text = f", overrides={json.dumps(overrides)}" if overrides else ""
    arguments = f'job_id="{handle}"{overrides_text}'
    if status.spec.get("secrets"):
        return f"retry_job with {arguments}, and its secrets given again"
    return f"retry_job({arguments})"


def longer_timeout(status: JobStatus) -> str | None:
    """Return twice the timeout of a job, at most the longest one; None if it has that already."""
    seconds = status.spec.get("timeout")
    max_timeout = describe_kind(status.kind).max_timeout
    if seconds is None or (timeout := timedelta(seconds=float(seconds))) >= max_timeout:
        return None
    return format_duration(min(2 * timeout, max_timeout))
