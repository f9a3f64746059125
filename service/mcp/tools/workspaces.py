"""The tools that group jobs."""

from typing import Annotated, Literal

from mcp_types import CallToolResult
from pydantic import Field, StringConstraints

from schema.common.ids import Kind
from schema.common.money import micro, say_usd
from schema.workspaces import store as workspace_store
from schema.workspaces.defaults import Defaults
from schema.workspaces.store import Change
from service.auth.caller import Scope
from service.jobs import operations
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import NAMES, READS, Contract, contract, told
from service.workspaces import actions as workspace_actions
from service.workspaces.views import (
    CountedWorkspaceView,
    MadeWorkspaceView,
    WorkspacePage,
    WorkspaceStatusView,
    WorkspaceView,
)

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
WorkspaceId = Annotated[str, Field(description="A handle, ws_….")]
Amount = Annotated[float, Field(ge=0, le=1e9)] | Literal["off"]
Threshold = Annotated[
    Amount | None, Field(description="Ask the person before a launch that could cost more.")
]
Budget = Annotated[Amount | None, Field(description="What all its jobs may cost together.")]


async def create_workspace(
    name: Title,
    defaults: Annotated[
        Defaults | None, Field(description="For launches into it that do not say otherwise.")
    ] = None,
    budget_usd: Budget = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, MadeWorkspaceView]:
    """Make a named group for jobs: pass its workspace_id when you launch, and to list_jobs.

    A name is yours once: asking for the same one again gives the same workspace, as it is. It does
    not expire. A launch whose worst case does not fit into its budget is refused.
    """
    view = await workspace_actions.make(
        app, caller, name, defaults or Defaults(), budget=_amount(budget_usd)
    )
    if view.created:
        said = f"is made. {view.settings()} Pass it to launch_job."
    else:
        said = f"is there already, and was left as it is. {view.settings()}"
    if view.archived_at is not None:
        said += f' It is archived: update_workspace(workspace_id="{view.workspace_id}", '
        said += "archived=false) takes it back."
    return told(f"{view.workspace_id} ({name}) {said}", view)


async def workspace_status(
    workspace_id: WorkspaceId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, WorkspaceStatusView]:
    """Show a workspace as a whole: its settings, its jobs by state, and the latest of them."""
    async with app.transaction(caller) as tx:
        view = await workspace_actions.look(tx, caller, workspace_id)
    lines = [f"{job.job_id} {job.state}: {job.title}" for job in view.latest_jobs]
    return told(view.summary(), view, "\n".join(lines))


async def list_workspaces(
    archived: Annotated[bool, Field(description="Also those put away.")] = False,  # noqa: FBT002  # filled in by name, from JSON
    cursor: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WorkspacePage]:
    """List your workspaces, the newest first, with how many jobs each holds, and what they cost."""
    before = operations.older_than(Kind.WORKSPACE, cursor)
    async with app.transaction(caller) as tx:
        found = await workspace_store.workspaces(
            tx, caller.subject_id, before=before, limit=limit + 1, archived=archived
        )
    shown = [CountedWorkspaceView.counted(workspace) for workspace in found[:limit]]
    more = shown[-1].workspace_id if len(found) > limit else None
    lines = [
        f"{each.workspace_id} {each.name}: {each.open_jobs} open jobs, "
        f"{say_usd(micro(each.spent_usd))} spent, {say_usd(micro(each.held_usd))} held"
        for each in shown
    ]
    view = WorkspacePage(workspaces=shown, next_cursor=more)
    return told(f"{len(shown)} workspaces, the newest first.", view, "\n".join(lines))


async def update_workspace(
    workspace_id: WorkspaceId,
    name: Title | None = None,
    defaults: Annotated[
        Defaults | None, Field(description="Those given change; null takes one away.")
    ] = None,
    confirm_above_usd: Threshold = None,
    budget_usd: Budget = None,
    archived: Annotated[bool | None, Field(description="False takes it back.")] = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WorkspaceView]:
    """Rename a workspace, or change what launches into it take from now on.

    What is not given stays; "off" takes a limit away. No job changes: a budget below what is held
    and spent only refuses new work.
    """
    wanted = defaults or Defaults()
    caller.namespace(wanted.namespace)
    change = Change(
        name=name,
        defaults=wanted.given(),
        sets_confirmation=confirm_above_usd is not None,
        confirm_above_micro_usd=_amount(confirm_above_usd),
        sets_budget=budget_usd is not None,
        budget_micro_usd=_amount(budget_usd),
        archived=archived,
    )
    view = WorkspaceView.of(await workspace_actions.change(app, caller, workspace_id, change))
    return told(f"{view.workspace_id} ({view.name}) is up to date. {view.settings()}", view)


async def archive_workspace(
    workspace_id: WorkspaceId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, CountedWorkspaceView]:
    """Put a workspace away: it takes no new jobs, and everything in it stays readable.

    What is queued or running goes on. Archiving twice is harmless; update_workspace with
    archived=false takes it back.
    """
    await workspace_actions.change(app, caller, workspace_id, Change(archived=True))
    view = CountedWorkspaceView.counted(await workspace_actions.count(app, caller, workspace_id))
    going = f" {view.open_jobs} jobs in it go on; cancel_job stops one." if view.open_jobs else ""
    return told(f"{view.workspace_id} ({view.name}) takes no new jobs.{going}", view)


def _amount(dollars: float | str | None) -> int | None:
    return None if dollars is None or isinstance(dollars, str) else micro(dollars)


def contracts() -> list[Contract]:
    """Publish these tools."""
    handle = "ws_01krz4c0s0e5xv4k6w2q8ntb7m"
    return [
        contract(create_workspace, "Create a workspace", NAMES, *Scope, name="llama-finetune"),
        contract(workspace_status, "Workspace status", READS, details=True, workspace_id=handle),
        contract(list_workspaces, "List workspaces", READS, limit=20),
        contract(
            update_workspace,
            "Change a workspace",
            NAMES,
            *Scope,
            workspace_id=handle,
            defaults={"flavor": "a10g-small", "timeout": "2h"},
        ),
        contract(archive_workspace, "Archive a workspace", NAMES, *Scope, workspace_id=handle),
    ]
