"""What are clients shown of schedules? Their times, as the clocks of their zone show them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, RootModel

from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd
from schema.schedules.store import ScheduleStatus
from schema.schedules.tables import FiringOutcome, MissedPolicy, OverlapPolicy, ScheduleFiring
from service.views.base import Detail, View
from service.views.money import usd_if_known

MAX_NEXT_RUNS = 5
"""How many of its next times are shown of a schedule."""


class FiringView(View):
    """One time at which it fired."""

    fire_at: datetime
    became: FiringOutcome
    asked: Detail[bool]
    """It was asked for with run_now."""
    job_id: str | None
    """The job it made, or, if it was skipped, the one that had not finished."""
    code: Detail[str | None]
    message: str | None
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
            message=firing.message,
        )

    def describe(self) -> str:
        """Say what became of it."""
        said = {
            FiringOutcome.LAUNCHED: f"launched {self.job_id}",
            FiringOutcome.SKIPPED: f"launched nothing, for {self.job_id} had not finished",
            FiringOutcome.MISSED: "was missed, for no worker was there",
            FiringOutcome.REFUSED: f"was refused: {self.message}",
        }
        return f"The one at {_format_minute(self.fire_at)} {said[self.became]}".rstrip(".") + "."


class ScheduleView(View):
    """A schedule."""

    schedule_id: str
    name: str
    summary: str
    cron: str
    timezone: str
    paused: bool
    next_run_at: datetime | None
    """None while it is paused."""
    next_runs: Detail[list[str]]
    """As the clocks of its time zone show them."""
    last: FiringView | None
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
    ceiling_usd: float | None
    """What each job could cost at worst when it was made."""
    created_at: Detail[datetime]

    @classmethod
    def from_status(cls, schedule: ScheduleStatus, **more: Any) -> Self:
        """Show a schedule."""
        firings = [FiringView.from_firing(each) for each in schedule.firings]
        ahead = (
            []
            if schedule.next_at is None
            else schedule.trigger.upcoming(schedule.read_at, MAX_NEXT_RUNS)
        )
        workspace_id = schedule.workspace_id
        return cls(
            schedule_id=ids.format_handle(HandleKind.SCHEDULE, schedule.id),
            name=schedule.name,
            summary=_summarize(schedule, ahead, firings),
            cron=schedule.cron,
            timezone=schedule.timezone,
            paused=schedule.paused_at is not None,
            next_run_at=schedule.next_at,
            next_runs=[_format_minute(moment) for moment in ahead],
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
            **more,
        )


class CreatedScheduleView(ScheduleView):
    """A schedule that was asked for."""

    notes: list[str]
    """What to know before it is relied on."""


class ScheduleDryRunView(View):
    """What a schedule would be; none was made."""

    dry_run: Literal[True]
    needs: list[str]
    """What its first job would lack, if it were launched now."""
    next_runs: list[str]
    namespace: Detail[str]
    spec: Detail[dict[str, Any]]
    labels: Detail[dict[str, str]]
    notes: list[str]
    ceiling_usd: float | None
    """What each job can cost at worst."""


class ScheduleAnswer(RootModel[CreatedScheduleView | ScheduleDryRunView]):
    """A schedule that was made, or what a dry run found."""

    model_config = ConfigDict(json_schema_extra={"type": "object"})


class SchedulePage(View):
    """Schedules, the newest first."""

    schedules: list[ScheduleView]
    next_cursor: str | None
    """Pass as cursor for older ones."""


class DeletedScheduleView(View):
    """A schedule that is no more."""

    schedule_id: str
    name: str


def describe_cost(ceiling_usd: float | None) -> str:
    """Say what a firing can cost."""
    if ceiling_usd is None:
        return "What each job costs is not known beforehand."
    return f"Each job costs {format_usd(to_micro_usd(ceiling_usd))} at most."


def describe_next_runs(times: list[str]) -> str:
    """Name the next times in a sentence."""
    return f"The next times: {', '.join(times)}."


def _summarize(
    schedule: ScheduleStatus, next_runs: list[datetime], firings: list[FiringView]
) -> str:
    rhythm = f'"{schedule.cron}" ({schedule.timezone})'
    if not next_runs:
        said = f"It is paused, and would fire at {rhythm}."
    else:
        said = f"It fires at {rhythm}, next {_format_minute(next_runs[0])}."
    if schedule.asked_at is not None:
        said += " A firing was asked for, and has not happened yet."
    return " ".join([said, *(each.describe() for each in firings[:1])])


def _format_minute(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
