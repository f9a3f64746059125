"""What is a job as a task? Its handle is the task's id, and the end of the job is the task's.

    queued, launching, running   working     with the summary, which also says what holds it
    succeeded                    completed   the result is what wait_for_jobs answers by then
    failed                       completed   the same, and marked as an error
    cancelled                    cancelled

No job ends as `failed`, which is for errors of the protocol alone; and none asks for input, as a
person has been asked what there is to ask before the launch.
"""

from collections.abc import Mapping
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
from service.views.jobs import JobView, WaitView


class JobTasks:
    """The jobs of whoever asks, as tasks."""

    def __init__(self, retention: timedelta) -> None:
        """Say how long a job can be read after its end."""
        self._retention = retention

    async def get_task(self, app: App, caller: Caller, task_id: str) -> Task:
        async with app.transaction(caller) as tx:
            status = await operations.find_job(tx, caller, task_id)
            [task] = await self.build_tasks(tx, app, [status])
        return task

    async def update_task(
        self, app: App, caller: Caller, task_id: str, answers: Mapping[str, Any]
    ) -> None:
        del answers  # a job asks for nothing, so that they answer nothing
        await self.get_task(app, caller, task_id)

    async def cancel_task(self, app: App, caller: Caller, task_id: str) -> None:
        await operations.cancel_job(app, caller, task_id)

    async def build_tasks(self, tx: Transaction, app: App, statuses: list[JobStatus]) -> list[Task]:
        """Show jobs of one subject's."""
        views = await operations.build_job_views(tx, app, statuses)
        return [self._build_task(*each) for each in zip(statuses, views, strict=True)]

    def _build_task(self, status: JobStatus, view: JobView) -> Task:
        moments = (status.created_at, status.started_at, status.posted_at, status.seen_at)
        end = status.finished_at
        stands = _task_status(status.state)
        return Task(
            task_id=view.job_id,
            status=stands,
            message=view.summary,
            created_at=status.created_at,
            updated_at=end or max(moment for moment in moments if moment is not None),
            ttl=None if end is None else end - status.created_at + self._retention,
            poll_interval=None if end is not None else job_summary.poll_interval(status),
            outcome={"result": _task_result(view)} if stands is TaskStatus.COMPLETED else {},
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
    shown = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    # ext-tasks 0.2.2 does not take a result for one without it.
    return {**shown, "resultType": "complete"}


def wait_result(view: WaitView) -> CallToolResult:
    """Say how a wait has ended."""
    each = len(view.jobs) > 1 and view.done
    lines = [
        f"{job.job_id}: {job.summary}{f' {job.next_step}' if each else ''}" for job in view.jobs
    ]
    lines += [error.message for error in view.errors]
    return tool_result("\n".join([*lines, view.next_step]), view)
