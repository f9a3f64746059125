"""Jobs as tasks: the handle of a job is the id of its task, and both end together.

    queued, launching, running   working     with the summary, which also says what holds it
    succeeded                    completed   the result is what wait_for_jobs answers by then
    failed                       completed   the same, and marked as an error
    cancelled                    cancelled

No job ends as `failed`, which is for errors of the protocol only. No job asks for input: a person
is asked before the launch.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, assert_never

from mcp_types import CallToolResult

from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobState
from service.auth.caller import Caller
from service.jobs import operations, wait
from service.mcp.tasks.extension import Task, TaskStatus
from service.mcp.tool import tool_result
from service.runtime.context import App
from service.views import job_summary
from service.views.job_text import describe_job
from service.views.jobs import JobView, WaitView


class JobTasks:
    """The jobs of a caller, as tasks."""

    def __init__(self, retention_of: Callable[[str], timedelta]) -> None:
        """Make the source of tasks.

        Args:
            retention_of: how long a job of a kind can be read after its end.
        """
        self._retention_of = retention_of

    async def get_task(self, app: App, caller: Caller, task_id: str) -> Task:
        async with app.transaction(caller) as tx:
            status = await operations.find_job(tx, caller, task_id)
            [task] = await self.build_tasks(tx, app, [status])
            await operations.mark_seen(tx, caller, [status])
        return task

    async def update_task(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        del answers  # a job has no questions, so every answer is ignored
        await self.get_task(app, caller, task_id)

    async def cancel_task(self, app: App, caller: Caller, task_id: str) -> None:
        await operations.cancel_job(app, caller, task_id)

    async def build_tasks(self, tx: Transaction, app: App, statuses: list[JobStatus]) -> list[Task]:
        """Build the tasks of jobs, which all belong to one subject."""
        views = await operations.build_job_views(tx, app, statuses)
        return [
            self._build_task(status, view) for status, view in zip(statuses, views, strict=True)
        ]

    def _build_task(self, status: JobStatus, view: JobView) -> Task:
        times = (status.created_at, status.started_at, status.posted_at, status.seen_at)
        end = status.finished_at
        task_status = _task_status(status.state)
        return Task(
            task_id=view.job_id,
            status=task_status,
            message=view.summary,
            created_at=status.created_at,
            updated_at=end or max(time for time in times if time is not None),
            ttl=None if end is None else end - status.created_at + self._retention_of(status.kind),
            poll_interval=None if end is not None else job_summary.poll_interval(status),
            outcome={"result": _task_result(view)} if task_status is TaskStatus.COMPLETED else {},
        )


def _task_status(state: JobState) -> TaskStatus:
    match state:
        case JobState.QUEUED | JobState.LAUNCHING | JobState.RUNNING:
            return TaskStatus.WORKING
        case JobState.SUCCEEDED | JobState.FAILED:
            return TaskStatus.COMPLETED
        case JobState.CANCELLED:
            return TaskStatus.CANCELLED
        case _:
            assert_never(state)


def _task_result(view: JobView) -> dict[str, Any]:
    answer = wait_result(wait.build_final_view(view))
    answer.is_error = view.state is JobState.FAILED
    result = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    # ext-tasks 0.2.2 does not accept a result without it.
    return {**result, "resultType": "complete"}


def wait_result(view: WaitView) -> CallToolResult:
    """Build the result of a wait."""
    shows_next_steps = len(view.jobs) > 1 and view.done
    lines = [
        f"{job.job_id} ({job.brief_facts}): {job.summary}"
        f"{f' {job.next_step}' if shows_next_steps else ''}"
        for job in view.jobs
    ]
    lines += [error.message for error in view.errors]
    detail = "\n".join(describe_job(job) for job in view.jobs if isinstance(job, JobView))
    return tool_result("\n".join([*lines, *view.notes, view.next_step]), view, detail)
