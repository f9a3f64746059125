"""The tools for workspaces, which group jobs."""

from typing import Annotated, Final, Literal

from mcp_types import CallToolResult
from pydantic import Field, StringConstraints

from schema.common.ids import HandleKind
from schema.common.money import to_micro_usd
from schema.common.text import format_count
from schema.workspaces import store as workspace_store
from schema.workspaces.defaults import WorkspaceDefaults
from schema.workspaces.store import WorkspaceChange
from service.auth.caller import ACTING_SCOPES
from service.jobs import operations
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import (
    CREATES,
    IDEMPOTENT_WRITE,
    READ_ONLY,
    McpTool,
    build_tool,
    tool_result,
)
from service.mcp.tools.arguments import Cursor, WebhookUrlInput
from service.views.pages import describe_page, take_page
from service.workspaces import actions as workspace_actions
from service.workspaces import webhooks
from service.workspaces.views import (
    CountedWorkspaceView,
    CreatedWorkspaceView,
    WebhookSecretView,
    WorkspacePage,
    WorkspaceStatusView,
    WorkspaceView,
)

WorkspaceName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)
]
WorkspaceId = Annotated[str, Field(description="A handle, ws_….")]
UsdLimit = Annotated[float, Field(ge=0, le=1e9)] | Literal["off"]
ApprovalThreshold = Annotated[
    UsdLimit | None, Field(description="Ask the person before a launch that could cost more.")
]
Budget = Annotated[UsdLimit | None, Field(description="What all its jobs may cost together.")]

_PAGE_LIMIT: Final = 20


async def create_workspace(
    name: WorkspaceName,
    defaults: Annotated[
        WorkspaceDefaults | None,
        Field(description="For launches into it that do not say otherwise."),
    ] = None,
    budget_usd: Budget = None,
    webhook_url: WebhookUrlInput = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, CreatedWorkspaceView]:
    """Make a named group for jobs: pass its workspace_id when you launch, and to list_jobs.

    A name is yours once: the same one gives the same workspace, as it is. A launch whose worst
    case does not fit into its budget is refused.
    """
    view = await workspace_actions.create_workspace(
        app,
        caller,
        name,
        defaults or WorkspaceDefaults(),
        budget_micro_usd=_to_micro_usd(budget_usd),
        webhook_url=webhook_url,
    )
    if view.created:
        outcome = f"is made. {view.describe_defaults()} Pass it to launch_job."
    else:
        outcome = f"is there already, and was left as it is. {view.describe_defaults()}"
    if view.archived_at is not None:
        outcome += f' It is archived: update_workspace(workspace_id="{view.workspace_id}", '
        outcome += "archived=false) takes it back."
    return tool_result(f"{view.workspace_id} ({name}) {outcome}", view, view.describe_limits())


async def workspace_status(
    workspace_id: WorkspaceId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, WorkspaceStatusView]:
    """Show a workspace as a whole: its settings, its jobs by state, and the latest of them."""
    async with app.transaction(caller) as tx:
        view = await workspace_actions.show_workspace(tx, caller, workspace_id)
    lines = [f"{job.job_id} {job.state}: {job.title}" for job in view.latest_jobs]
    return tool_result(view.describe(), view, "\n".join(lines))


async def list_workspaces(
    archived: Annotated[bool, Field(description="Also those put away.")] = False,  # noqa: FBT002  # filled in by name, from JSON
    cursor: Cursor = None,
    limit: Annotated[int, Field(ge=1, le=100)] = _PAGE_LIMIT,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WorkspacePage]:
    """List your workspaces, the newest first, with how many jobs each holds, and what they cost."""
    before = operations.parse_cursor(HandleKind.WORKSPACE, cursor)
    async with app.transaction(caller) as tx:
        rows = await workspace_store.list_workspaces(
            tx, caller.subject_id, before=before, limit=limit + 1, include_archived=archived
        )
    entries = [CountedWorkspaceView.from_totals(totals) for totals in rows]
    workspaces, has_more = take_page(entries, limit=limit, default_limit=_PAGE_LIMIT)
    next_cursor = workspaces[-1].workspace_id if has_more else None
    view = WorkspacePage(workspaces=workspaces, next_cursor=next_cursor)
    sentence = describe_page(len(workspaces), "workspace", next_cursor)
    return tool_result(sentence, view, "\n".join(workspace.line for workspace in workspaces))


async def update_workspace(
    workspace_id: WorkspaceId,
    name: WorkspaceName | None = None,
    defaults: Annotated[
        WorkspaceDefaults | None, Field(description="Those given change; null takes one away.")
    ] = None,
    confirm_above_usd: ApprovalThreshold = None,
    budget_usd: Budget = None,
    webhook_url: WebhookUrlInput = None,
    archived: Annotated[bool | None, Field(description="False takes it back.")] = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WorkspaceView]:
    """Rename a workspace, or change what launches into it take from now on.

    What is not given stays; "off" takes a limit or the webhook away. No job changes.
    """
    new_defaults = defaults or WorkspaceDefaults()
    caller.resolve_namespace(new_defaults.namespace)
    change = WorkspaceChange(
        name=name,
        defaults=new_defaults.to_patch(),
        sets_confirmation=confirm_above_usd is not None,
        confirm_above_micro_usd=_to_micro_usd(confirm_above_usd),
        sets_budget=budget_usd is not None,
        budget_micro_usd=_to_micro_usd(budget_usd),
        archived=archived,
    )
    view = await workspace_actions.update_workspace(
        app, caller, workspace_id, change, webhook_url=webhook_url
    )
    warning = " It is archived and takes no new jobs." if view.archived_at else ""
    sentence = f"{view.workspace_id} ({view.name}) is up to date.{warning}"
    return tool_result(f"{sentence} {view.describe_defaults()}", view, view.describe_limits())


async def archive_workspace(
    workspace_id: WorkspaceId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, CountedWorkspaceView]:
    """Put a workspace away: it takes no new jobs, and everything in it stays readable.

    What is queued or running goes on. update_workspace with archived=false takes it back.
    """
    await workspace_actions.update_workspace(
        app, caller, workspace_id, WorkspaceChange(archived=True)
    )
    view = CountedWorkspaceView.from_totals(
        await workspace_actions.read_totals(app, caller, workspace_id)
    )
    sentence = f"{view.workspace_id} ({view.name}) takes no new jobs."
    if view.open_jobs:
        open_jobs = format_count(view.open_jobs, "job in it goes", "jobs in it go")
        sentence += f" {open_jobs} on; cancel_job stops one, or all."
    return tool_result(sentence, view, view.describe())


async def rotate_webhook_secret(
    webhook_url: Annotated[str, Field(min_length=1, max_length=2000)],
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WebhookSecretView]:
    """Make a new secret for a webhook_url that you have used, if the old one is lost or known.

    It is shown this once. For 24 hours the old one signs as well, so that you can change over.
    """
    secret = await webhooks.rotate_secret(app, caller, webhook_url)
    view = WebhookSecretView(webhook_secret=secret)
    sentence = f"Webhooks there are signed with {secret} from now on, which is not shown again."
    return tool_result(sentence, view)


def _to_micro_usd(dollars: float | str | None) -> int | None:
    return None if dollars is None or isinstance(dollars, str) else to_micro_usd(dollars)


def build_tools() -> list[McpTool]:
    """Publish these tools."""
    return [
        build_tool(
            create_workspace,
            "Create a workspace",
            IDEMPOTENT_WRITE,
            *ACTING_SCOPES,
        ),
        build_tool(
            workspace_status,
            "Workspace status",
            READ_ONLY,
        ),
        build_tool(list_workspaces, "List workspaces", READ_ONLY),
        build_tool(
            update_workspace,
            "Change a workspace",
            IDEMPOTENT_WRITE,
            *ACTING_SCOPES,
        ),
        build_tool(
            archive_workspace,
            "Archive a workspace",
            IDEMPOTENT_WRITE,
            *ACTING_SCOPES,
        ),
        build_tool(
            rotate_webhook_secret,
            "Replace a webhook's secret",
            CREATES,
            *ACTING_SCOPES,
        ),
    ]
