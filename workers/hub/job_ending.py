"""What the Hub's last word about a job means: the ending, with the evidence it was judged by."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from schema.jobs.run_end import Ending
from schema.jobs.tables import JobState, Reason
from workers.hub.job import RemoteJob, Status

ACTIVE: Final = ("SCHEDULING", "RUNNING")
"""The stages of a job that is not over."""

DELETED: Final = Ending(
    JobState.FAILED, "DELETED", Reason.UPSTREAM_DELETED, "The Hub no longer knows this job."
)

_EXIT_CODE: Final = re.compile(r"exit code:? (\d+)", re.IGNORECASE)
_CAUSE: Final = re.compile(r"Reason: (\w+)")
_OVERDUE: Final = re.compile(r"\bjob time(?:d ?)?out|DeadlineExceeded", re.IGNORECASE)
_NOT_STARTED: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerError", "CreateContainerConfigError", "RunContainerError"),
        *("StartError", "ContainerCannotRun"),
    }
)
"""What Kubernetes calls a container that can never start as it was asked for."""
_NO_IMAGE: Final = re.compile(
    r"no such image|manifest (?:unknown|for \S+ not found)", re.IGNORECASE
)
_UNPAID: Final = frozenset({"NO_CREDITS", "NO_SUBSCRIPTION", "RESOURCE_GROUP_LIMIT", "SPEND_LIMIT"})


def verdict(job: RemoteJob | None) -> Ending | None:
    """Judge a job by its last status; none while it is not over, as far as we understand."""
    if job is None:
        return DELETED
    ending = _judge(job.status or Status())
    return ending and replace(ending, ran=_ran(job, ending), started_at=_moment(job.started_at))


def _judge(status: Status) -> Ending | None:
    match status.stage:
        case "COMPLETED":
            return Ending(JobState.SUCCEEDED, "COMPLETED", exit_code=0)
        case "ERROR":
            return _error(status)
        case "CANCELED":
            return _cancelled(status)
        case "DELETED":
            return DELETED
        case _:
            return None


def _ran(job: RemoteJob, ending: Ending) -> timedelta | None:
    """Say how long it ran; what was cancelled before it was started did not."""
    never_started = ending.stage == "CANCELED" and job.started_at is None
    return timedelta(0) if job.ran is None and never_started else job.ran


def _moment(told: datetime | None) -> datetime | None:
    return told if told is None or told.tzinfo else told.replace(tzinfo=UTC)


def _error(status: Status) -> Ending:
    # The whole sentence is the Hub's to change; only these parts of it have been seen to last.
    said = status.message or ""
    code = _EXIT_CODE.search(said)
    exit_code = int(code[1]) if code else None
    return Ending(JobState.FAILED, "ERROR", _reason(said, exit_code), status.message, exit_code)


def _reason(said: str, exit_code: int | None) -> Reason:
    """Name the reason that a message gives; what is not recognised is named so."""
    cause = _CAUSE.search(said)
    if cause is not None and cause[1] == "OOMKilled":
        return Reason.OOM
    if (cause is not None and cause[1] in _NOT_STARTED) or _NO_IMAGE.search(said):
        return Reason.INVALID_REQUEST
    if exit_code:
        return Reason.EXIT_NONZERO
    return Reason.TIMED_OUT if _OVERDUE.search(said) else Reason.INTERNAL


def _cancelled(status: Status) -> Ending:
    why = [text for text in (status.message, status.cancel_reason) if text]
    message = " ".join(why) or None
    if status.cancel_reason in _UNPAID:
        return Ending(JobState.FAILED, "CANCELED", Reason.INSUFFICIENT_CREDITS, message)
    return Ending(JobState.CANCELLED, "CANCELED", Reason.CANCELLED_UPSTREAM, message)
