"""Views of schedules; their next times are local times of their own time zone."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, RootModel
from typing_extensions import override

from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd
from schema.schedules.store import ScheduleStatus
from schema.schedules.tables import FiringOutcome, MissedPolicy, OverlapPolicy, ScheduleFiring
from service.views.base import Detail, View
from service.views.money import usd_if_known
from service.views.pages import EntryView
from service.views.text import fit_text

MAX_NEXT_RUNS = 5
"""How many of the next times of a schedule are shown."""
_MAX_REFUSAL_BYTES = 500
"""How much is shown of why a firing was refused."""


class FiringView(View):
    """One firing of a schedule."""

    fire_at: Detail[datetime]
    became: FiringOutcome
    asked: Detail[bool]
    """It was requested with run_now."""
    job_id: str | None
    """The job that it launched, or, if it was skipped, the one that had not finished."""
    code: Detail[str | None]
    message: Detail[str | None]
    """Why it was refused."""

    @classmethod
    def from_firing(cls, firing: ScheduleFiring) -> Self:
        """Show a firing."""
        return cls(
            fire_at=firing.fire_at,
            became=firing.became,
            asked=firing.asked,
            job_id=firing.job_id and ids.format_handle(HandleKind.JOB, firing.job_id),
            code=firing.code,
            message=None
            if firing.message is None
            else fit_text(firing.message, _MAX_REFUSAL_BYTES),
        )

    def describe(self) -> str:
        """Write a sentence about the outcome."""
        outcomes = {
            FiringOutcome.LAUNCHED: f"launched {self.job_id}",
            FiringOutcome.SKIPPED: f"launched nothing, because {self.job_id} had not finished",
            FiringOutcome.MISSED: "was missed, because no worker was running",
            FiringOutcome.REFUSED: f"was refused: {self.message}",
        }
        return (
            f"The one at {_format_minute(self.fire_at)} {outcomes[self.became]}".rstrip(".") + "."
        )


class ScheduleView(EntryView):
    """A schedule."""

    schedule_id: str
    name: Detail[str]
    summary: Detail[str]
    cron: Detail[str]
    timezone: Detail[str]
    paused: bool
    next_run_at: datetime | None
    """None while it is paused."""
    next_runs: Detail[list[str]]
    """In local time of its time zone."""
    last: Detail[FiringView | None]
    firings: Detail[list[FiringView]]
    """The latest ones."""
    overlap: Detail[OverlapPolicy]
    missed: Detail[MissedPolicy]
    kind: Detail[str]
    title: Detail[str]
    """What each of its jobs does."""
    namespace: Detail[str]
    workspace_id: Detail[str | None]
    labels: Detail[dict[str, str]]
    ceiling_usd: Detail[float | None]
    """What each job could cost at most when the schedule was created."""
    created_at: Detail[datetime]

    @property
    @override
    def line(self) -> str:
        cost = describe_cost(self.ceiling_usd)
        return f"{self.schedule_id} {self.name}: {self.summary} {cost}"

    @classmethod
    def from_status(cls, schedule: ScheduleStatus, **extra_fields: Any) -> Self:
        """Show a schedule."""
        firings = [FiringView.from_firing(firing) for firing in schedule.firings]
        next_runs = (
            []
            if schedule.next_at is None
            else schedule.trigger.upcoming(schedule.read_at, MAX_NEXT_RUNS)
        )
        workspace_id = schedule.workspace_id
        return cls(
            schedule_id=ids.format_handle(HandleKind.SCHEDULE, schedule.id),
            name=schedule.name,
            summary=_summarize(schedule, next_runs, firings),
            cron=schedule.cron,
            timezone=schedule.timezone,
            paused=schedule.paused_at is not None,
            next_run_at=schedule.next_at,
            next_runs=[_format_minute(moment) for moment in next_runs],
            last=firings[0] if firings else None,
            firings=firings,
            overlap=schedule.overlap,
            missed=schedule.missed,
            kind=schedule.kind,
            title=schedule.title,
            namespace=schedule.namespace,
            workspace_id=workspace_id and ids.format_handle(HandleKind.WORKSPACE, workspace_id),
            labels=schedule.labels,
            ceiling_usd=usd_if_known(schedule.ceiling_micro_usd),
            created_at=schedule.created_at,
            **extra_fields,
        )

    def describe(self) -> str:
        """Write what the summary leaves out, a fact a line."""
        launches = f"Each firing launches: {self.kind}, {self.title}, as {self.namespace}"
        if self.workspace_id is not None:
            launches += f", into {self.workspace_id}"
        lines = [f"{launches}. {describe_cost(self.ceiling_usd)}"]
        if self.next_runs:
            lines.append(describe_next_runs(self.next_runs))
        lines.append(
            f"paused {str(self.paused).lower()}, overlap {self.overlap}, missed {self.missed}"
        )
        lines += [firing.describe() for firing in self.firings[1:]]
        return "\n".join(lines)


class CreatedScheduleView(ScheduleView):
    """The answer to create_schedule."""

    notes: Detail[list[str]]
    """What to know before relying on it."""


class ScheduleDryRunView(View):
    """What a schedule would be; none was created."""

    dry_run: Detail[Literal[True]]
    needs: list[str]
    """What its first job would need and lack, if it were launched now."""
    next_runs: Detail[list[str]]
    namespace: Detail[str]
    spec: Detail[dict[str, Any]]
    shortened: Detail[bool]
    """Long values of spec are cut here; what is launched is whole."""
    labels: Detail[dict[str, str]]
    notes: Detail[list[str]]
    ceiling_usd: Detail[float | None]
    """What each job can cost at most."""


class ScheduleAnswer(RootModel[CreatedScheduleView | ScheduleDryRunView]):
    """A schedule that was created, or the result of a dry run."""

    model_config = ConfigDict(json_schema_extra={"type": "object"})


class SchedulePage(View):
    """Schedules, the newest first."""

    schedules: list[ScheduleView]
    next_cursor: str | None
    """Pass as cursor for older ones."""


class DeletedScheduleView(View):
    """A schedule that was deleted."""

    schedule_id: str
    name: Detail[str]


def describe_cost(ceiling_usd: float | None) -> str:
    """Write a sentence about what each job can cost."""
    if ceiling_usd is None:
        return "What each job costs is not known beforehand."
    return f"Each job costs {format_usd(to_micro_usd(ceiling_usd), is_bound=True)} at most."


def describe_next_runs(times: list[str]) -> str:
    """Write a sentence with the next times."""
    return f"The next times: {', '.join(times)}."


def _summarize(
    schedule: ScheduleStatus, next_runs: list[datetime], firings: list[FiringView]
) -> str:
    times = f'"{schedule.cron}" ({schedule.timezone})'
    if not next_runs:
        summary = f"It is paused, and would fire at {times}."
    else:
        summary = f"It fires at {times}, next {_format_minute(next_runs[0])}."
    if schedule.asked_at is not None:
        summary += " A firing was asked for, and has not happened yet."
    return " ".join([summary, *(firing.describe() for firing in firings[:1])])


def _format_minute(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
