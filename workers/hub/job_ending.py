"""The result of a run, derived from the Hub's last status of its job, with the evidence."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from workers.hub.job import RemoteJob, RemoteStatus

ACTIVE_STAGES: Final = ("SCHEDULING", "RUNNING")
"""The stages of a job that has not ended."""

DELETED_RESULT: Final = RunResult(
    JobState.FAILED, "DELETED", Reason.UPSTREAM_DELETED, "The Hub no longer knows this job."
)

_EXIT_CODE_PATTERN: Final = re.compile(r"exit code:? (\d+)", re.IGNORECASE)
_CAUSE_PATTERN: Final = re.compile(r"Reason: (\w+)")
_TIMED_OUT_PATTERN: Final = re.compile(r"\bjob time(?:d ?)?out|DeadlineExceeded", re.IGNORECASE)
_CONTAINER_START_ERRORS: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerError", "CreateContainerConfigError", "RunContainerError"),
        *("StartError", "ContainerCannotRun"),
    }
)
"""The names that Kubernetes gives to a container that can never start as specified."""
_IMAGE_NOT_FOUND_PATTERN: Final = re.compile(
    r"no such image|manifest (?:unknown|for \S+ not found)", re.IGNORECASE
)
_BILLING_CANCEL_REASONS: Final = frozenset(
    {"NO_CREDITS", "NO_SUBSCRIPTION", "RESOURCE_GROUP_LIMIT", "SPEND_LIMIT"}
)


def derive_run_result(job: RemoteJob | None) -> RunResult | None:
    """Derive the result of a job from its last status; None unless that is a final one."""
    if job is None:
        return DELETED_RESULT
    result = _result_from_status(job.status or RemoteStatus())
    return result and replace(
        result, run_duration=_running_time(job, result), started_at=_with_time_zone(job.started_at)
    )


def _result_from_status(status: RemoteStatus) -> RunResult | None:
    match status.stage:
        case "COMPLETED":
            return RunResult(JobState.SUCCEEDED, "COMPLETED", exit_code=0)
        case "ERROR":
            return _error_result(status)
        case "CANCELED":
            return _cancelled_result(status)
        case "DELETED":
            return DELETED_RESULT
        case _:
            return None


def _running_time(job: RemoteJob, run_result: RunResult) -> timedelta | None:
    """Return how long it ran: not at all if it was cancelled before it started."""
    never_started = run_result.stage == "CANCELED" and job.started_at is None
    return timedelta(0) if job.running_time is None and never_started else job.running_time


def _with_time_zone(timestamp: datetime | None) -> datetime | None:
    return timestamp if timestamp is None or timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def _error_result(status: RemoteStatus) -> RunResult:
    # The Hub may change the sentence; only these parts of it have stayed the same so far.
    message = status.message or ""
    match = _EXIT_CODE_PATTERN.search(message)
    exit_code = int(match[1]) if match else None
    return RunResult(
        JobState.FAILED, "ERROR", _parse_reason(message, exit_code), status.message, exit_code
    )


def _parse_reason(message: str, exit_code: int | None) -> Reason:
    """Return the reason that a message gives; `INTERNAL` if it is not recognised."""
    cause = _CAUSE_PATTERN.search(message)
    if cause is not None and cause[1] == "OOMKilled":
        return Reason.OOM
    if (
        cause is not None and cause[1] in _CONTAINER_START_ERRORS
    ) or _IMAGE_NOT_FOUND_PATTERN.search(message):
        return Reason.INVALID_REQUEST
    if exit_code:
        return Reason.EXIT_NONZERO
    return Reason.TIMED_OUT if _TIMED_OUT_PATTERN.search(message) else Reason.INTERNAL


def _cancelled_result(status: RemoteStatus) -> RunResult:
    parts = [text for text in (status.message, status.cancel_reason) if text]
    message = " ".join(parts) or None
    if status.cancel_reason in _BILLING_CANCEL_REASONS:
        return RunResult(JobState.FAILED, "CANCELED", Reason.INSUFFICIENT_CREDITS, message)
    return RunResult(JobState.CANCELLED, "CANCELED", Reason.CANCELLED_UPSTREAM, message)
