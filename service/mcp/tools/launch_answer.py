"""How every tool that begins work answers: with a handle, or with what it would have done."""

from dataclasses import replace

from mcp_types import CallToolResult

from schema.common.money import format_usd, to_micro_usd
from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import JobKind
from service.auth.caller import Caller
from service.jobs import dependencies as job_dependencies
from service.jobs import launch as job_launch
from service.jobs.dry_run import DryRunView, dry_run_launch
from service.jobs.launch import LaunchRequest
from service.mcp.resources import job_link
from service.mcp.tool import tool_result
from service.runtime.context import App
from service.views.jobs import LaunchedView


async def launch_or_dry_run(
    app: App,
    caller: Caller,
    request: LaunchRequest,
    *,
    parent_handles: list[str] | None = None,
    dependency_condition: DependencyCondition = DependencyCondition.SUCCESS,
    dry_run: bool = False,
) -> CallToolResult:
    """Launch what was asked for, once the jobs named have ended, or only say what that would do."""
    parents = await job_dependencies.find_parents(app, caller, parent_handles, dependency_condition)
    request = replace(request, parent_ids=parents, dependency_condition=dependency_condition)
    if dry_run:
        return _dry_run_result(await dry_run_launch(app, caller, request))
    if request.kind == JobKind.HUB_JOB:
        await app.require_launch_permission(caller, request.namespace)
    return launch_result(await job_launch.enqueue_job(app, caller, request))


def launch_result(view: LaunchedView) -> CallToolResult:
    """Answer a launch of whichever kind."""
    sentence = " ".join([f"{view.job_id}: {view.summary}", *view.notes, view.next_step])
    if view.cost.ceiling_usd:
        sentence += f" It costs {format_usd(to_micro_usd(view.cost.ceiling_usd))} at most."
    if view.possible_duplicate_of is not None:
        sentence += (
            f" The same request made {view.possible_duplicate_of} minutes ago; if this is a repeat,"
            f' call cancel_job(job_id="{view.job_id}").'
        )
    return tool_result(sentence, view, links=[job_link(view)])


def _dry_run_result(view: DryRunView) -> CallToolResult:
    if view.ceiling_usd is None:
        cost = "What it costs is not known."
    else:
        cost = (
            f"At worst it costs {format_usd(to_micro_usd(view.ceiling_usd))}, paid by "
            f"{view.namespace}."
        )
    if view.needs:
        return tool_result(
            f"Nothing was launched, and this would not be. {' '.join(view.needs)}", view
        )
    said = " ".join(["Nothing was launched.", cost, *view.notes])
    return tool_result(f"{said} Leave dry_run out to launch it.", view)
