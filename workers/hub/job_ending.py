"""The result of a run, derived from the Hub's last status of its job, with the evidence."""

import re
from dataclasses import replace
from typing import Final

from schema.hub.job import RemoteJob, RemoteStatus
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason

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
        result,
        run_duration=job.running_time,
        time_to_start=job.time_to_start,
        never_started=_never_started(job, result),
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


def _never_started(job: RemoteJob, run_result: RunResult) -> bool:
    """Return whether the Hub says that a job ended before it was started, and so cost nothing."""
    if job.started_at is not None or job.running_time or run_result.exit_code is not None:
        return False
    if run_result.stage == "CANCELED" or run_result.reason is Reason.INVALID_REQUEST:
        return True
    # The other endings are those of a job that ran, unless the Hub has only the end of it.
    return (
        run_result.stage == "ERROR"
        and run_result.reason is not Reason.TIMED_OUT
        and job.finished_at is not None
    )


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
