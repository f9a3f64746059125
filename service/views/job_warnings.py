"""What is a job that has not finished waiting for, and what may still go wrong with it?"""

from datetime import datetime, timedelta
from typing import Final, assert_never

from schema.accounts.tables import Hold
from schema.common import ids
from schema.common.durations import say
from schema.jobs.dependencies import On, open_ones
from schema.jobs.queries import JobStatus
from schema.jobs.tables import FINAL
from service.views.text import about

_STUCK: Final = timedelta(minutes=10)
"""Waiting longer than this for hardware is worth a thought."""
_LAST: Final = timedelta(minutes=5)
_PART: Final = 10
"""A timeout is near in its last minutes, or its last tenth, whichever is longer."""
_HALF: Final = 2


def warnings(status: JobStatus) -> list[str]:
    """Say what the one who asked for a job would want to know before it happens."""
    if status.state in FINAL:
        return []
    return [text for text in (_stuck(status), _near_its_end(status), _token(status)) if text]


def queued(status: JobStatus) -> str:
    """Say where a queued job stands, and what it waits for."""
    match status.hold:
        case Hold.CREDENTIALS:
            return "Queued, but held: Hugging Face no longer accepts the token it was lent."
        case Hold.OPERATOR:
            return "Queued, but held: whoever runs this Holdfast has paused your jobs."
        case None if open_ones(status.after):
            return f"Queued until {_parents(status)}."
        case None if status.tries:
            return (
                f"Queued again: {status.tries} launches in a row were turned away, and nothing was "
                f"started. It is tried again by itself{_in(status, status.due_at)}."
            )
        case None if status.attempt:
            return (
                "Queued again: its first launch was never confirmed, so it is launched once more."
            )
        case None | Hold.DEPENDENCY:
            return _in_line(status)
        case _:
            assert_never(status.hold)


def _parents(status: JobStatus) -> str:
    waits = open_ones(status.after)
    named = [ids.write(ids.Kind.JOB, parent.job_id) for parent in waits]
    ended = "succeeded" if waits[0].on is On.SUCCESS else "finished"
    if len(named) == 1:
        return f"{named[0]} has {ended}"
    return f"{', '.join(named[:-1])} and {named[-1]} have {ended}"


def _in_line(status: JobStatus) -> str:
    place = f"Queued behind {_jobs(status.ahead)} of yours" if status.ahead else "Queued"
    if status.launches_from is not None:
        return (
            f"{place}; Hugging Face asked for a pause, so your jobs are launched"
            f"{_in(status, status.launches_from)}."
        )
    if 0 < status.max_active <= status.active:
        return (
            f"{place}; as many of your jobs are running as may at a time ({status.max_active}), so "
            f"it is launched as soon as one of them has finished."
        )
    return f"{place}; it is launched as soon as a worker is free."


def scheduling(status: JobStatus) -> str:
    """Say how long a job has been waiting for hardware."""
    flavor = status.spec.get("flavor")
    waited = _waited(status)
    since = f" for {about(waited)}" if waited >= timedelta(minutes=1) else ""
    return f"Created at Hugging Face; it waits for {flavor} hardware{since}, at no cost so far."


def _stuck(status: JobStatus) -> str | None:
    if status.stage != "SCHEDULING" or (waited := _waited(status)) < _STUCK:
        return None
    end = ""
    if status.deadline_at is not None and status.deadline_at > status.read_at:
        end = f" Left alone, it is given up in {about(status.deadline_at - status.read_at)}."
    return (
        f"No {status.spec.get('flavor')} has been free for {about(waited)}; list_hardware shows "
        f"other flavors, and cancelling costs nothing.{end}"
    )


def _near_its_end(status: JobStatus) -> str | None:
    limit = _limit(status)
    if status.stage != "RUNNING" or status.started_at is None or limit is None:
        return None
    if _attempts(status) > 1:  # when this one began, nobody says
        return None
    left = status.started_at + limit - status.read_at
    near = min(max(limit / _PART, _LAST), limit / _HALF)
    if left > near:
        return None
    when = f"in {about(left)}" if left > timedelta(0) else "any moment now"
    return (
        f"It will be stopped {when}, at its timeout of {say(limit)}; it cannot be extended, and "
        f"what it has not uploaded by then is lost."
    )


def _token(status: JobStatus) -> str | None:
    limit, expiry = _limit(status), status.token_expires_at
    if limit is None or expiry is None or expiry <= status.read_at:
        return None
    if (status.started_at or status.read_at) + limit <= expiry:
        return None
    return (
        f"Your token expires in {about(expiry - status.read_at)}, which may be before it has "
        f"finished; call again with a fresh one by then, or it cannot be watched or stopped."
    )


def _limit(status: JobStatus) -> timedelta | None:
    given = status.spec.get("timeout")
    return None if given is None else timedelta(seconds=given) * _attempts(status)


def _attempts(status: JobStatus) -> int:
    return int(status.spec.get("attempts") or 1)


def _waited(status: JobStatus) -> timedelta:
    return status.read_at - (status.posted_at or status.read_at)


def _in(status: JobStatus, moment: datetime | None) -> str:
    if moment is None or moment <= status.read_at:
        return ""
    return f" in {about(moment - status.read_at)}"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
