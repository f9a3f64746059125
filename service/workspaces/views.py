"""Views of workspaces."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from typing_extensions import override

from schema.billing.budgets import BudgetScope, BudgetStatus
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.ids import HandleKind
from schema.common.money import format_usd, to_micro_usd, to_usd
from schema.common.text import format_count
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState
from schema.workspaces.defaults import WorkspaceDefaults
from schema.workspaces.open_jobs import CountsAfterCancel
from schema.workspaces.store import WorkspaceStatus, WorkspaceSummary
from schema.workspaces.tables import Workspace
from service.views import job_summary
from service.views.base import Detail, View
from service.views.money import usd_if_known
from service.views.pages import EntryView


class DefaultsView(View):
    """The values of launches into a workspace that give no other."""

    namespace: str | None
    flavor: str | None
    timeout: str | None
    labels: dict[str, str]

    @classmethod
    def from_defaults(cls, defaults: WorkspaceDefaults) -> Self:
        """Show defaults."""
        return cls(
            namespace=defaults.namespace,
            flavor=defaults.flavor,
            timeout=None if defaults.timeout is None else format_duration(defaults.timeout),
            labels=defaults.labels or {},
        )


@dataclass(frozen=True, slots=True)
class ShownWebhook:
    """What is shown of the webhook of a workspace."""

    host: str | None = None
    secret: str | None = None
    """Only in the answer to the call that made it."""


NO_WEBHOOK: Final = ShownWebhook()


class WorkspaceView(View):
    """A named group of jobs."""

    workspace_id: str
    name: Detail[str]
    created_at: Detail[datetime]
    archived_at: Detail[datetime | None]
    """Since when it takes no new jobs."""
    defaults: Detail[DefaultsView]
    confirm_above_usd: Detail[float | None]
    """The person is asked before a launch that could cost more; null: never."""
    budget_usd: Detail[float | None]
    """What its jobs may cost together; null means that there is no limit."""
    held_usd: Detail[float]
    """What its unfinished jobs may still cost."""
    spent_usd: Detail[float]
    left_usd: Detail[float | None]
    """What new jobs may cost at most."""
    webhook_host: Detail[str | None]
    """Where the ends of its jobs are announced."""
    webhook_secret: Detail[str | None] = None
    """What signs them, if the URL is new. It is shown this once."""

    @classmethod
    def from_workspace(
        cls, workspace: Workspace, webhook: ShownWebhook, **extra_fields: Any
    ) -> Self:
        """Show a workspace."""
        return cls(
            workspace_id=ids.format_handle(HandleKind.WORKSPACE, workspace.id),
            name=workspace.name,
            created_at=workspace.created_at,
            archived_at=workspace.archived_at,
            defaults=DefaultsView.from_defaults(
                WorkspaceDefaults.model_validate(workspace.defaults)
            ),
            confirm_above_usd=usd_if_known(workspace.confirm_above_micro_usd),
            **_budget_fields(workspace),
            webhook_host=webhook.host,
            webhook_secret=webhook.secret,
            **extra_fields,
        )

    def describe_defaults(self) -> str:
        """Write a sentence about the defaults."""
        values = {"namespace": self.defaults.namespace, "flavor": self.defaults.flavor}
        values["timeout"] = self.defaults.timeout
        defaults = [f"{name} {value}" for name, value in values.items() if value is not None]
        defaults += [f"label {name}={text}" for name, text in self.defaults.labels.items()]
        sentence = (
            f"Launches into it take {', '.join(defaults)}." if defaults else "It has no defaults."
        )
        return " ".join([sentence, *self._describe_webhook()])

    def _describe_webhook(self) -> Iterator[str]:
        if self.webhook_host is not None:
            yield f"The ends of its jobs go to {self.webhook_host}."
        if self.webhook_secret is not None:
            yield f"They are signed with {self.webhook_secret}, which is not shown again."

    def describe_limits(self) -> str:
        """Write what its jobs have cost, and may cost."""
        confirmation = self.confirm_above_usd
        question = (
            "Nobody is asked before a launch."
            if confirmation is None
            else f"The person is asked before a launch above {_format(confirmation)}."
        )
        return f"{_describe_money(self)} {question}"


class WebhookSecretView(View):
    """The answer to rotate_webhook_secret."""

    webhook_secret: str
    """What signs from now on; it cannot be read again."""


class CreatedWorkspaceView(WorkspaceView):
    """The answer to create_workspace."""

    created: bool
    """False if it existed already; then it stays as it was."""


class CountedWorkspaceView(EntryView):
    """A workspace and how many jobs it holds."""

    workspace_id: str
    name: str
    created_at: Detail[datetime]
    archived_at: Detail[datetime | None]
    budget_usd: Detail[float | None]
    held_usd: Detail[float]
    spent_usd: Detail[float]
    left_usd: Detail[float | None]
    jobs: Detail[int]
    open_jobs: int

    @property
    @override
    def line(self) -> str:
        return f"{self.workspace_id} {self.name}: {self.describe()}"

    @classmethod
    def from_totals(cls, workspace: WorkspaceSummary | WorkspaceStatus) -> Self:
        """Show a workspace with its counts."""
        return cls(
            workspace_id=ids.format_handle(HandleKind.WORKSPACE, workspace.id),
            name=workspace.name,
            created_at=workspace.created_at,
            archived_at=workspace.archived_at,
            **_budget_fields(workspace),
            jobs=workspace.jobs,
            open_jobs=workspace.open_jobs,
        )

    def describe(self) -> str:
        """Write how many jobs it holds, and what they cost."""
        archived = " It is archived." if self.archived_at else ""
        jobs = f"{format_count(self.jobs, 'job')}, {self.open_jobs} open."
        return f"{jobs} {_describe_money(self)}{archived}"


class WorkspacePage(View):
    """Workspaces, the newest first."""

    workspaces: list[CountedWorkspaceView]
    next_cursor: str | None
    """Pass as cursor for older ones."""


class LeftJobView(View):
    """A job that a cancel of its workspace has left open."""

    job_id: str
    why: Detail[str]


class WorkspaceCancelView(View):
    """What a cancel of all open jobs of a workspace has done."""

    workspace_id: Detail[str]
    """Not in the schema, in which it would stand beside that of a job, which may be null."""
    name: Detail[str]
    cancelled: int
    """Jobs that this call has cancelled."""
    open_jobs: int
    """Jobs that go on."""
    stopping: int
    """Jobs whose runs may still cost money, until they are seen to be over."""
    schedules: Detail[int]
    """Schedules that go on launching into it."""
    failing_elsewhere: Detail[int]
    """Jobs outside of it that waited for the success of a cancelled one, and fail."""
    not_cancelled: list[LeftJobView]
    """The oldest of the jobs that go on."""
    next_step: str

    @classmethod
    def from_counts(
        cls,
        workspace: Workspace,
        counts: CountsAfterCancel,
        *,
        cancelled: int,
        not_cancelled: list[LeftJobView],
    ) -> Self:
        """Show what a cancel has done, and name the next call."""
        handle = ids.format_handle(HandleKind.WORKSPACE, workspace.id)
        next_step = "Nothing is left to do."
        if counts.stopping:
            next_step = (
                f'Call wait_for_jobs(workspace_id="{handle}", mode="all", until="terminal") until '
                f"all of it has stopped."
            )
        elif counts.open_jobs:
            next_step = f'Call cancel_job(workspace_id="{handle}") again for what is open.'
        return cls(
            workspace_id=handle,
            name=workspace.name,
            cancelled=cancelled,
            open_jobs=counts.open_jobs,
            stopping=counts.stopping,
            schedules=counts.schedules,
            failing_elsewhere=counts.failing_elsewhere,
            not_cancelled=not_cancelled,
            next_step=next_step,
        )

    def describe(self) -> str:
        """Write what happened, what may still cost money, and what goes on."""
        place = f"{self.workspace_id} ({self.name})"
        if self.cancelled:
            count = format_count(self.cancelled, "job of", "jobs of")
            sentences = [f"{count} {place} {_is_or_are(self.cancelled)} cancelled, for good."]
        else:
            sentences = [f"Nothing was cancelled: no job of {place} was open."]
            if self.open_jobs:
                sentences = [f"Nothing of {place} was cancelled."]
        if self.stopping:
            count = format_count(self.stopping, "job")
            sentences.append(
                f"What {count} started at Hugging Face is being stopped, and may still cost money "
                f"until it is seen to be over."
            )
        if self.failing_elsewhere:
            count = format_count(self.failing_elsewhere, "job")
            sentences.append(
                f"{count} outside of it waited for the success of one of them, and cannot begin."
            )
        if self.schedules:
            count = format_count(self.schedules, "schedule of it goes", "schedules of it go")
            sentences.append(
                f"{count} on launching: update_schedule with paused=true stops one, "
                f"archive_workspace everything that is new."
            )
        if self.open_jobs:
            count = format_count(self.open_jobs, "job of it goes", "jobs of it go")
            sentences.append(f"{count} on.")
        return " ".join(sentences)

    def list_left_jobs(self) -> str:
        """Write why each of the jobs shown goes on, on a line each."""
        return "\n".join(f"{job.job_id}: {job.why}" for job in self.not_cancelled)


class JobLineView(View):
    """The line of a job in a list."""

    job_id: str
    state: JobState
    title: Detail[str]
    created_at: Detail[datetime]

    @classmethod
    def from_status(cls, status: JobStatus) -> Self:
        """Show a job as one line."""
        return cls(
            job_id=job_summary.job_handle(status),
            state=status.state,
            title=job_summary.job_title(status),
            created_at=status.created_at,
        )


class WorkspaceStatusView(WorkspaceView):
    """A workspace with the totals of its jobs, and the newest of them."""

    jobs: int
    open_jobs: int
    states: dict[str, int]
    """How many jobs are in each state; a state without a job is left out."""
    run_seconds: Detail[int]
    """How long they have run at Hugging Face, in total."""
    latest_jobs: list[JobLineView]

    @classmethod
    def from_totals(
        cls, workspace: WorkspaceStatus, webhook: ShownWebhook, latest: list[JobStatus]
    ) -> Self:
        """Show a workspace with the totals of its jobs, and the newest of them."""
        return cls.from_workspace(
            workspace,
            webhook,
            jobs=workspace.jobs,
            open_jobs=workspace.open_jobs,
            states=workspace.states,
            run_seconds=workspace.run_seconds,
            latest_jobs=[JobLineView.from_status(status) for status in latest],
        )

    def describe(self) -> str:
        """Write two or three sentences about the workspace."""
        archived = " It is archived and takes no new jobs." if self.archived_at else ""
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        run_time = format_duration(timedelta(seconds=self.run_seconds))
        jobs = (
            f"{format_count(self.jobs, 'job')} ({states}), which ran for {run_time} in total"
            if self.jobs
            else "no job"
        )
        return (
            f"{self.workspace_id} ({self.name}) has {jobs}.{archived} {self.describe_limits()} "
            f"{self.describe_defaults()}"
        )


def _describe_money(workspace: WorkspaceView | CountedWorkspaceView) -> str:
    money = f"It has cost {_format(workspace.spent_usd)}"
    if workspace.held_usd:
        money += f", and may cost {_format(workspace.held_usd, is_bound=True)} more"
    if workspace.budget_usd is not None:
        money += f", of a budget of {_format(workspace.budget_usd)}"
    if workspace.left_usd is not None:
        money += f"; {_format(workspace.left_usd)} is left"
    return f"{money}."


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _format(dollars: float, *, is_bound: bool = False) -> str:
    return format_usd(to_micro_usd(dollars), is_bound=is_bound)


def _budget_fields(workspace: Workspace) -> dict[str, Any]:
    budget = BudgetStatus(
        BudgetScope.WORKSPACE,
        workspace.budget_micro_usd,
        workspace.held_micro_usd,
        workspace.spent_micro_usd,
    )
    return {
        "budget_usd": usd_if_known(budget.budget_micro_usd),
        "held_usd": to_usd(budget.held_micro_usd),
        "spent_usd": to_usd(budget.spent_micro_usd),
        "left_usd": usd_if_known(budget.remaining_micro_usd),
    }
