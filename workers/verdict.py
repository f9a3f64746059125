"""What the Hub's last word about a job means: the ending, with the evidence it was judged by."""

import re
from typing import Final

from schema.endings import Ending
from schema.job import JobState, Reason
from workers.remote_job import RemoteJob, Status

ACTIVE: Final = ("SCHEDULING", "RUNNING")
"""The stages of a job that is not over."""

DELETED: Final = Ending(
    JobState.FAILED, "DELETED", Reason.UPSTREAM_DELETED, "The Hub no longer knows this job."
)

_EXIT_CODE: Final = re.compile(r"exit code:? (\d+)", re.IGNORECASE)
_CAUSE: Final = re.compile(r"Reason: (\w+)")
_UNPAID: Final = frozenset({"NO_CREDITS", "NO_SUBSCRIPTION", "RESOURCE_GROUP_LIMIT", "SPEND_LIMIT"})


def verdict(job: RemoteJob | None) -> Ending | None:
    """Judge a job by its last status; none while it is not over, as far as we understand."""
    if job is None:
        return DELETED
    status = job.status or Status()
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


def _error(status: Status) -> Ending:
    # The whole sentence is the Hub's to change; only these parts of it have been seen to last.
    said = status.message or ""
    code = _EXIT_CODE.search(said)
    cause = _CAUSE.search(said)
    if cause is not None and cause[1] == "OOMKilled":
        reason = Reason.OOM
    elif "timeout" in said.lower():
        reason = Reason.TIMED_OUT
    elif code is not None:
        reason = Reason.EXIT_NONZERO
    else:
        reason = Reason.INTERNAL
    exit_code = int(code[1]) if code else None
    return Ending(JobState.FAILED, "ERROR", reason, status.message, exit_code)


def _cancelled(status: Status) -> Ending:
    if status.cancel_reason in _UNPAID:
        message = status.message or f"The Hub stopped it: {status.cancel_reason}."
        return Ending(JobState.FAILED, "CANCELED", Reason.INSUFFICIENT_CREDITS, message)
    return Ending(JobState.CANCELLED, "CANCELED", Reason.CANCELLED_UPSTREAM, status.message)
