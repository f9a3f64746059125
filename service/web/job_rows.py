"""Jobs as the pages show them: states in a word, an icon and a colour, and money and times as text.

The words and sentences are those of the views that tools answer with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schema.common.durations import format_duration
from schema.common.money import format_usd, to_micro_usd
from schema.jobs.tables import EventKind, JobEvent, JobState
from service.views.jobs import JobEntry
from service.views.money import CostView

_COLOURS: Final[Mapping[JobState, str]] = {
    JobState.QUEUED: "amber",
    JobState.LAUNCHING: "amber",
    JobState.RUNNING: "blue",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "grey",
}
_EVENTS: Final[Mapping[EventKind, str]] = {
    EventKind.CREATED: "Launched",
    EventKind.CLAIMED: "A worker took it",
    EventKind.BEGUN: "The call was sent",
    EventKind.REJECTED: "Hugging Face refused it",
    EventKind.HANDED_BACK: "It made room for others",
    EventKind.UNCONFIRMED: "The answer to the launch was lost",
    EventKind.BOUND: "Hugging Face has it",
    EventKind.ABSENT: "Hugging Face does not have it",
    EventKind.UNWATCHED: "It is no longer watched",
    EventKind.SURPLUS: "One run too many is stopped",
    EventKind.STAGE: "Its stage changed",
    EventKind.PROGRESSED: "It made progress",
    EventKind.RELEASED: "What it waited for has ended",
    EventKind.EXPIRED: "Its time was up",
    EventKind.ENDED: "Finished",
    EventKind.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, slots=True)
class ShownState:
    """A state by word, icon and colour, so that none of them is needed."""

    word: str
    colour: str

    @classmethod
    def from_state(cls, state: JobState) -> "ShownState":
        """Show a state; the icon has its name."""
        return cls(state, _COLOURS[state])


@dataclass(frozen=True, slots=True)
class ShownTime:
    """A moment: as a program reads it, in full, and how long ago it was."""

    iso: str
    full: str
    relative: str

    @classmethod
    def from_moment(cls, moment: datetime, now: datetime) -> "ShownTime":
        """Show a moment.

        Args:
            moment: when it was.
            now: the time of Postgres, as that of the moment.
        """
        age = max(now - moment, timedelta(0))
        return cls(
            moment.isoformat(timespec="seconds"),
            f"{moment:%Y-%m-%d %H:%M:%S} UTC",
            f"{_format_age(age)} ago",
        )


@dataclass(frozen=True, slots=True)
class JobRow:
    """A line of the table."""

    handle: str
    title: str
    kind: str
    state: ShownState
    reason: str
    created: ShownTime
    duration: str
    cost: str

    @classmethod
    def from_entry(cls, entry: JobEntry, now: datetime) -> "JobRow":
        """Show a job."""
        return cls(
            handle=entry.job_id,
            title=entry.title,
            kind=entry.kind.replace("_", " "),
            state=ShownState.from_state(entry.state),
            reason=(entry.reason or entry.hold or "").replace("_", " "),
            created=ShownTime.from_moment(entry.created_at, now),
            duration=format_run_time(entry, now),
            cost=format_cost(entry.cost),
        )


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """A line of the history of a job."""

    word: str
    state: ShownState
    at: ShownTime
    detail: str

    @classmethod
    def from_event(cls, event: JobEvent, now: datetime) -> "TimelineEvent":
        """Show an event."""
        facts = {name: event.facts.get(name) for name in ("stage", "reason", "client")}
        return cls(
            _EVENTS.get(event.kind, event.kind),
            ShownState.from_state(event.state),
            ShownTime.from_moment(event.at, now),
            ", ".join(str(fact).replace("_", " ")[:100] for fact in facts.values() if fact),
        )


def format_run_time(entry: JobEntry, now: datetime) -> str:
    """Say how long a job has run; nothing if it has not begun."""
    if entry.started_at is None:
        return ""
    return _format_age(max((entry.finished_at or now) - entry.started_at, timedelta(0)))


def format_cost(cost: CostView) -> str:
    """Say what a job has cost so far; nothing if that is not known."""
    if cost.so_far_usd is None:
        return ""
    return format_usd(to_micro_usd(cost.so_far_usd))


def _format_age(age: timedelta) -> str:
    """Write a length of time in its largest unit, as scripts go on to do in the browser."""
    for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)):
        if age >= unit:
            return format_duration(age // unit * unit)
    return format_duration(timedelta(seconds=int(age.total_seconds())))
