"""The tool that waits for jobs."""

from datetime import timedelta
from typing import Annotated, Final

from mcp.server.mcpserver import Context, Resolve
from mcp_types import CallToolResult
from pydantic import Field

from schema.common.errors import Invalid
from service.jobs import wait
from service.jobs.wait import Mode, Until, WaitCondition
from service.mcp.dependencies import AppDep, CallerDep, ProgressDep
from service.mcp.tasks.extension import client_accepts_tasks, task_handover_result
from service.mcp.tasks.job_tasks import wait_result
from service.mcp.tool import READ_ONLY, McpTool, build_tool
from service.mcp.tools.arguments import MAX_JOB_IDS, JobIds, OpenJobsOf, one_target_error
from service.runtime.context import App
from service.views.jobs import WaitView
from service.workspaces.open_jobs import JobSelection, select_open_jobs

MAX_TIMEOUT_SECONDS: Final = 45
"""Clients and proxies give up on a call after a minute."""
_TIMEOUT_NOTE: Final = (
    f"A call waits {MAX_TIMEOUT_SECONDS} seconds at most, so timeout_seconds was taken as "
    f"{MAX_TIMEOUT_SECONDS}."
)
TimeoutSeconds = Annotated[float, Field(gt=0, description="45 at most.")]
Version = Annotated[int, Field(ge=0, le=2**53)]
SinceVersion = Annotated[
    Version | dict[str, Version],
    Field(description='The version you saw; of several jobs {"job_…": 3}.'),
]


async def _may_answer_with_task(ctx: Context[App]) -> bool:
    """Say whether this call may be answered with a task, which is over when the job is.

    A call that says that it waits for a change does not mean that.
    """
    arguments: dict[str, object] = (ctx.request_context.params or {}).get("arguments") or {}
    waits_for_change = (
        arguments.get("until") == Until.CHANGE or arguments.get("since_version") is not None
    )
    return client_accepts_tasks(ctx.request_context) and not waits_for_change


AsTaskDep = Annotated[bool, Resolve(_may_answer_with_task)]


async def wait_for_jobs(
    job_ids: JobIds | None = None,
    workspace_id: OpenJobsOf = None,
    mode: Mode = Mode.ANY,
    until: Until = Until.CHANGE,
    since_version: SinceVersion | None = None,
    timeout_seconds: TimeoutSeconds = 30,
    *,
    app: AppDep,
    caller: CallerDep,
    progress: ProgressDep,
    as_task: AsTaskDep,
) -> Annotated[CallToolResult, WaitView]:
    """Wait until any or all of the jobs have changed, or until nothing of them will change.

    It answers at once if that holds already. When it is timed_out just call it again as next_step
    says: with since_version no change is missed in between. Prefer this to polling job_status.
    """
    selection: JobSelection | None = None
    match job_ids, workspace_id:
        case None, str() if since_version is None:
            selection = await select_open_jobs(app, caller, workspace_id, limit=MAX_JOB_IDS)
            if not selection.job_handles:
                return wait_result(_nothing_open(workspace_id))
            job_ids, as_task = selection.job_handles, False
        case None, str():
            raise Invalid("since_version goes with job_ids: without it, changes count from now.")
        case [*_], None:
            pass
        case _:
            raise one_target_error("job_ids", "workspace_id")
    seen_versions = wait.parse_seen_versions(job_ids, since_version)
    timeout = timedelta(seconds=min(timeout_seconds, MAX_TIMEOUT_SECONDS))
    condition = WaitCondition(mode, until, seen_versions, timeout, marks_seen=selection is None)
    if as_task and len(set(job_ids)) == 1:
        view = await wait.check_jobs(app, caller, job_ids, condition)
        if view.jobs[0].finished_at is None:
            return task_handover_result(view.jobs[0].job_id, wait_result(view))
    view = await wait.wait_for_jobs(app, caller, job_ids, condition, progress.report)
    if timeout_seconds > MAX_TIMEOUT_SECONDS:
        view = view.model_copy(update={"notes": [_TIMEOUT_NOTE]})
    if workspace_id is not None and selection is not None and selection.has_more:
        view = _add_others(view, workspace_id, selection, condition)
    return wait_result(view)


def _nothing_open(workspace_id: str) -> WaitView:
    return WaitView(
        jobs=[],
        errors=[],
        changed=[],
        done=True,
        timed_out=False,
        next_step=f'No job of {workspace_id} is open. Call list_jobs(workspace_id="{workspace_id}")'
        " for those that have ended.",
    )


def _add_others(
    view: WaitView, workspace_id: str, selection: JobSelection, condition: WaitCondition
) -> WaitView:
    """Say of the open jobs that one wait does not hold that they were not waited for."""
    count = len(selection.job_handles)
    note = (
        f"{workspace_id} had {selection.total:,} open jobs, and a wait holds {count}: those that "
        f"were launched first. The other {selection.total - count:,} were not waited for."
    )
    next_step = view.next_step
    if view.done:
        next_step = (
            f'Call wait_for_jobs(workspace_id="{workspace_id}", mode="{condition.mode}", '
            f'until="{condition.until}") for the others.'
        )
    return view.model_copy(
        update={"done": False, "notes": [*view.notes, note], "next_step": next_step}
    )


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [build_tool(wait_for_jobs, "Wait for jobs", READ_ONLY)]
