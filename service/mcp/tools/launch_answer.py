"""How every tool that begins work answers: with a handle, or with what it would have done."""

from dataclasses import replace

from mcp_types import CallToolResult

from schema.common.money import micro, say_usd
from schema.jobs.dependencies import On
from schema.jobs.tables import JobKind
from service.auth.caller import Caller
from service.jobs import dependencies as job_dependencies
from service.jobs import launch as job_launch
from service.jobs.dry_run import DryRunView, rehearse
from service.jobs.launch import Request
from service.mcp.resources import link_to
from service.mcp.tool import told
from service.runtime.context import App
from service.views.jobs import LaunchedView


async def launch(
    app: App,
    caller: Caller,
    request: Request,
    *,
    after: list[str] | None = None,
    on: On = On.SUCCESS,
    dry_run: bool = False,
) -> CallToolResult:
    """Launch what was asked for, once the jobs named have ended, or only say what that would do."""
    parents = await job_dependencies.resolve(app, caller, after, on)
    request = replace(request, after=parents, on=on)
    if dry_run:
        return _rehearsed(await rehearse(app, caller, request))
    if request.kind == JobKind.HUB_JOB:
        await app.expect_may_launch(caller, request.namespace)
    return launched(await job_launch.launch(app, caller, request))


def launched(view: LaunchedView) -> CallToolResult:
    """Answer a launch of whichever kind."""
    sentence = " ".join([f"{view.job_id}: {view.summary}", *view.notes, view.next_step])
    if view.cost.ceiling_usd:
        sentence += f" It costs {say_usd(micro(view.cost.ceiling_usd))} at most."
    if view.possible_duplicate_of is not None:
        sentence += (
            f" The same request made {view.possible_duplicate_of} minutes ago; if this is a repeat,"
            f' call cancel_job(job_id="{view.job_id}").'
        )
    return told(sentence, view, links=[link_to(view)])


def _rehearsed(view: DryRunView) -> CallToolResult:
    if view.ceiling_usd is None:
        cost = "What it costs is not known."
    else:
        cost = f"At worst it costs {say_usd(micro(view.ceiling_usd))}, paid by {view.namespace}."
    if view.needs:
        return told(f"Nothing was launched, and this would not be. {' '.join(view.needs)}", view)
    said = " ".join(["Nothing was launched.", cost, *view.notes])
    return told(f"{said} Leave dry_run out to launch it.", view)
