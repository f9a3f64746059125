"""The last step of every tool that launches: the launch, or its dry run, and the answer."""

from dataclasses import replace

from mcp_types import CallToolResult

from schema.common.money import format_usd, to_micro_usd
from schema.jobs.tables import JobKind
from service.auth.caller import Caller
from service.jobs import launch as job_launch
from service.jobs.dry_run import DryRunView, describe_request, dry_run_launch
from service.jobs.launch import LaunchRequest
from service.mcp.resources import job_link
from service.mcp.tool import tool_result
from service.mcp.tools.arguments import SingleLaunchArguments
from service.runtime.context import App
from service.views.job_text import describe_facts
from service.views.jobs import LaunchedView
from service.workspaces.webhooks import new_target


def for_single_job(
    app: App, request: LaunchRequest, arguments: SingleLaunchArguments
) -> LaunchRequest:
    """Make a request one for a single job, which a dry run asks nobody about.

    Raises:
        Invalid: nothing is sent to the webhook_url.
    """
    return replace(
        request,
        idempotency_key=arguments.idempotency_key,
        webhook=new_target(app, arguments.webhook_url),
        approval_threshold_micro_usd=None
        if arguments.dry_run
        else request.approval_threshold_micro_usd,
    )


async def launch_or_dry_run(
    app: App, caller: Caller, request: LaunchRequest, arguments: SingleLaunchArguments
) -> CallToolResult:
    """Launch a job that begins once its parents have ended, or only say what that would do."""
    parent_ids = await job_launch.find_parents(app, caller, arguments.after, arguments.on)
    request = replace(request, parent_ids=parent_ids, dependency_condition=arguments.on)
    if arguments.dry_run:
        return _dry_run_result(await dry_run_launch(app, caller, request))
    return await launch(app, caller, request)


async def launch(app: App, caller: Caller, request: LaunchRequest) -> CallToolResult:
    """Launch a job that the Hub lets the caller launch, and answer with its handle."""
    if request.kind == JobKind.HUB_JOB:
        await app.require_launch_permission(caller, request.namespace)
    return _launch_result(await job_launch.enqueue_job(app, caller, request))


def _launch_result(view: LaunchedView) -> CallToolResult:
    sentence = " ".join([f"{view.job_id}: {view.summary}", *view.notes, view.next_step])
    if view.cost.ceiling_usd:
        ceiling = format_usd(to_micro_usd(view.cost.ceiling_usd), is_bound=True)
        sentence += f" It costs {ceiling} at most."
    if view.webhook_secret is not None:
        sentence += f" Its webhook is signed with {view.webhook_secret}, which is not shown again."
    if view.possible_duplicate_of is not None:
        sentence += (
            f" The same request made {view.possible_duplicate_of} minutes ago; if this is a repeat,"
            f' call cancel_job(job_id="{view.job_id}").'
        )
    return tool_result(f"{sentence}\n{describe_facts(view)}", view, blocks=[job_link(view)])


def _dry_run_result(view: DryRunView) -> CallToolResult:
    if view.ceiling_usd is None:
        cost = "What it costs is not known."
    else:
        ceiling = format_usd(to_micro_usd(view.ceiling_usd), is_bound=True)
        cost = f"At worst it costs {ceiling}, paid by {view.namespace}."
    if view.budget_left_usd is not None:
        cost += f" The budget has {format_usd(to_micro_usd(view.budget_left_usd))} left."
    request = describe_request("What it would be", view.spec, view.labels, shortened=view.shortened)
    if view.needs:
        sentences = ["Nothing was launched, and this would not be.", *view.needs, cost]
        findings = " ".join([*sentences, *view.notes])
        return tool_result(findings, view, request)
    findings = " ".join(["Nothing was launched.", cost, *view.notes])
    return tool_result(f"{findings} Leave dry_run out to launch it.", view, request)
