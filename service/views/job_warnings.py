"""Warnings about jobs that have not ended, and sentences about what they wait for."""

from datetime import datetime, timedelta
from typing import Final, assert_never

from schema.accounts.tables import Hold
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.text import format_count
from schema.jobs.dependencies import DependencyCondition, filter_waiting_parents
from schema.jobs.queries import JobStatus
from schema.jobs.tables import FINAL_STATES
from service.views.job_kinds import describe_kind
from service.views.text import format_rough_duration

_SCHEDULING_WARNING_AFTER: Final = timedelta(minutes=10)
"""A job that has waited longer than this for hardware gets a warning."""
_MIN_TIMEOUT_WARNING: Final = timedelta(minutes=5)
_TIMEOUT_WARNING_DIVISOR: Final = 10
"""The warning comes in the last tenth of a timeout, or in its last minutes if that is longer."""
_MAX_TIMEOUT_WARNING_DIVISOR: Final = 2
"""The warning never comes before half of a timeout has passed."""


def list_warnings(status: JobStatus) -> list[str]:
    """Return what may go wrong with a job that has not ended, one sentence each."""
    if status.state in FINAL_STATES:
        return []
    return [
        text
        for text in (
            _scheduling_warning(status),
            _timeout_warning(status),
            _token_expiry_warning(status),
            _adoption_warning(status),
        )
        if text
    ]


def _adoption_warning(status: JobStatus) -> str:
    """Say what the budgets know of a job that was started outside of Holdfast."""
    if status.adoption is None:
        return ""
    return (
        "It was started outside of Holdfast, so no budget was checked before; its cost counts to "
        "the month in which it was created."
    )


def describe_queued(status: JobStatus) -> str:
    """Write the place of a queued job in the queue, and what it waits for."""
    match status.hold:
        case Hold.CREDENTIALS:
            return "Queued, but held: Hugging Face no longer accepts the token it was lent."
        case Hold.OPERATOR:
            return "Queued, but held: whoever runs this Holdfast has paused your jobs."
        case Hold.RESTORE:
            return (
                "Queued, but held: this Holdfast was restored from a backup, and first looks at "
                "Hugging Face whether the job was launched since."
            )
        case None if filter_waiting_parents(status.after):
            return f"Queued until {_describe_parents(status)}."
        case None if status.attempt or status.tries:
            return _describe_queued_again(status)
        case None | Hold.DEPENDENCY:
            return _describe_queue_position(status)
        case _:
            assert_never(status.hold)


def _describe_queued_again(status: JobStatus) -> str:
    if describe_kind(status.kind).resumes:
        return "Queued again; it goes on where it stopped."
    if status.tries:
        refused = format_count(status.tries, "launch was", "launches in a row were")
        return (
            f"Queued again: {refused} turned away, and nothing was "
            f"started. It is tried again by itself{_format_time_until(status, status.due_at)}."
        )
    return "Queued again: its first launch was never confirmed, so it is launched once more."


def _describe_parents(status: JobStatus) -> str:
    parents = filter_waiting_parents(status.after)
    handles = [ids.format_handle(ids.HandleKind.JOB, parent.job_id) for parent in parents]
    end = "succeeded" if parents[0].on is DependencyCondition.SUCCESS else "finished"
    if len(handles) == 1:
        return f"{handles[0]} has {end}"
    return f"{', '.join(handles[:-1])} and {handles[-1]} have {end}"


def _describe_queue_position(status: JobStatus) -> str:
    place = (
        f"Queued behind {format_count(status.ahead, 'job')} of yours" if status.ahead else "Queued"
    )
    if status.launches_from is not None:
        return (
            f"{place}; Hugging Face asked for a pause, so your jobs are launched"
            f"{_format_time_until(status, status.launches_from)}."
        )
    if status.max_active is not None and status.active >= status.max_active:
        return f"{place}; {_describe_reached_limit('jobs', status.max_active)}"
    if status.max_active_of_kind is not None and status.room_of_kind == 0:
        kind = describe_kind(status.kind).plural
        return f"{place}; {_describe_reached_limit(kind, status.max_active_of_kind)}"
    return f"{place}; it is launched as soon as a worker is free."


def _describe_reached_limit(jobs: str, limit: int) -> str:
    if limit == 0:
        return f"whoever runs this Holdfast launches no {jobs} of yours for now."
    return (
        f"your limit of running {jobs} is reached ({limit} at a time), so it is launched as soon "
        "as one of them has finished."
    )


def describe_scheduling(status: JobStatus) -> str:
    """Write how long a job has been waiting for hardware."""
    flavor = status.spec.get("flavor")
    wait = _time_since_posted(status)
    duration = f" for {format_rough_duration(wait)}" if wait >= timedelta(minutes=1) else ""
    return f"Created at Hugging Face; it waits for {flavor} hardware{duration}, at no cost so far."


def _scheduling_warning(status: JobStatus) -> str | None:
    if (
        status.stage != "SCHEDULING"
        or (wait := _time_since_posted(status)) < _SCHEDULING_WARNING_AFTER
    ):
        return None
    deadline = ""
    if status.deadline_at is not None and status.deadline_at > status.read_at:
        deadline = (
            " Left alone, it is given up in "
            f"{format_rough_duration(status.deadline_at - status.read_at)}."
        )
    return (
        f"No {status.spec.get('flavor')} has been free for {format_rough_duration(wait)}; "
        "list_hardware shows "
        f"other flavors, and cancelling costs nothing.{deadline}"
    )


def _timeout_warning(status: JobStatus) -> str | None:
    limit = _total_timeout(status)
    if status.stage != "RUNNING" or status.started_at is None or limit is None:
        return None
    if _max_attempts(status) > 1:  # the Hub does not say when the current attempt began
        return None
    left = status.started_at + limit - status.read_at
    warning_time = min(
        max(limit / _TIMEOUT_WARNING_DIVISOR, _MIN_TIMEOUT_WARNING),
        limit / _MAX_TIMEOUT_WARNING_DIVISOR,
    )
    if left > warning_time:
        return None
    when = f"in {format_rough_duration(left)}" if left > timedelta(0) else "any moment now"
    return (
        f"It will be stopped {when}, at its timeout of {format_duration(limit)}; it cannot be "
        "extended, and "
        f"what it has not uploaded by then is lost."
    )


def _token_expiry_warning(status: JobStatus) -> str | None:
    limit, expiry = _total_timeout(status), status.token_expires_at
    if limit is None or expiry is None or expiry <= status.read_at:
        return None
    if (status.started_at or status.read_at) + limit <= expiry:
        return None
    return (
        f"Your token expires in {format_rough_duration(expiry - status.read_at)}, which may be "
        "before it has "
        f"finished; call again with a fresh one by then, or it cannot be watched or stopped."
    )


def _total_timeout(status: JobStatus) -> timedelta | None:
    seconds = status.spec.get("timeout")
    return None if seconds is None else timedelta(seconds=seconds) * _max_attempts(status)


def _max_attempts(status: JobStatus) -> int:
    return int(status.spec.get("attempts") or 1)


def _time_since_posted(status: JobStatus) -> timedelta:
    return status.read_at - (status.posted_at or status.read_at)


def _format_time_until(status: JobStatus, moment: datetime | None) -> str:
    if moment is None or moment <= status.read_at:
        return ""
    return f" in {format_rough_duration(moment - status.read_at)}"
