"""The tools that group jobs."""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field, StringConstraints

from schema import handles, queries
from schema.handles import Kind
from schema.money import micro
from service import jobs
from service.auth.caller import Scope
from service.client import CLIENT
from service.context import AppDep, CallerDep
from service.sdk import NAMES, READS, Contract, contract, told
from service.views import CountedWorkspaceView, MadeWorkspaceView, WorkspacePage

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


async def create_workspace(
    name: Title,
    budget_usd: Annotated[
        float | None, Field(gt=0, le=1e9, description="What all its jobs may cost together.")
    ] = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, MadeWorkspaceView]:
    """Make a named group for jobs: pass its workspace_id when you launch, and to list_jobs.

    A name is yours once: asking for the same one again gives the same workspace, as it is. It does
    not expire. A launch whose worst case does not fit into its budget is refused.
    """
    async with app.transaction(caller) as tx:
        made = await queries.make_workspace(
            tx,
            caller.subject_id,
            handles.new_id(),
            name,
            budget_micro_usd=None if budget_usd is None else micro(budget_usd),
            client=CLIENT.get(),
        )
        kept = made or await queries.workspace_named(tx, caller.subject_id, name)
    assert kept is not None  # noqa: S101  # either it was made, or one of that name is there
    view = MadeWorkspaceView.of(kept, created=made is not None)
    verb = "made" if view.created else "there already"
    return told(f"{view.workspace_id} ({name}) is {verb}. Pass it to launch_job.", view)


async def list_workspaces(
    cursor: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, WorkspacePage]:
    """List your workspaces, the newest first, with how many jobs each holds."""
    before = jobs.older_than(Kind.WORKSPACE, cursor)
    async with app.transaction(caller) as tx:
        found = await queries.workspaces(tx, caller.subject_id, before=before, limit=limit + 1)
    shown = [CountedWorkspaceView.counted(workspace) for workspace in found[:limit]]
    more = shown[-1].workspace_id if len(found) > limit else None
    lines = [f"{each.workspace_id} {each.name}: {each.open_jobs} open jobs" for each in shown]
    view = WorkspacePage(workspaces=shown, next_cursor=more)
    return told(f"{len(shown)} workspaces, the newest first.", view, "\n".join(lines))


def contracts() -> list[Contract]:
    """Publish these tools."""
    return [
        contract(create_workspace, "Create a workspace", NAMES, *Scope, name="llama-finetune"),
        contract(list_workspaces, "List workspaces", READS, limit=20),
    ]
