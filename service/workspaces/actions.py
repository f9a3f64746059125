"""Actions on workspaces: create, change, show."""

from asyncpg.exceptions import UniqueViolationError

from schema.common import ids
from schema.common.errors import NameTaken, NotFound
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.changes import MAX_LATEST_JOBS
from schema.jobs.queries import JobFilter
from schema.workspaces import store as workspace_store
from schema.workspaces.defaults import WorkspaceDefaults
from schema.workspaces.store import WorkspaceChange, WorkspaceStatus
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.runtime.context import App
from service.workspaces.views import CreatedWorkspaceView, WorkspaceStatusView


async def create_workspace(
    app: App,
    caller: Caller,
    name: str,
    defaults: WorkspaceDefaults,
    *,
    budget_micro_usd: int | None,
) -> CreatedWorkspaceView:
    """Create a workspace; one that already has the name stays as it is, and is the answer.

    Raises:
        NamespaceDenied: the caller may not use the default namespace.
    """
    caller.resolve_namespace(defaults.namespace)
    async with app.transaction(caller) as tx:
        new_workspace = await workspace_store.create_workspace(
            tx,
            caller.subject_id,
            ids.new_id(),
            name,
            budget_micro_usd=budget_micro_usd,
            defaults=defaults.to_patch(),
            client=CURRENT_CLIENT.get(),
        )
        workspace = new_workspace or await workspace_store.find_workspace_by_name(
            tx, caller.subject_id, name
        )
    if workspace is None:  # the other one was renamed between the two statements
        return await create_workspace(
            app, caller, name, defaults, budget_micro_usd=budget_micro_usd
        )
    return CreatedWorkspaceView.from_workspace(workspace, created=new_workspace is not None)


async def update_workspace(
    app: App, caller: Caller, handle: str, changes: WorkspaceChange
) -> Workspace:
    """Change a workspace; its jobs stay as they are.

    Raises:
        NotFound: the caller has no such workspace.
        NameTaken: they have another workspace of that name; nothing has changed.
    """
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    try:
        async with app.transaction(caller) as tx:
            workspace = await workspace_store.update_workspace(
                tx, caller.subject_id, workspace_id, changes, client=CURRENT_CLIENT.get()
            )
    except UniqueViolationError:
        return await _update_unless_name_taken(app, caller, handle, changes)
    if workspace is None:
        raise NotFound("workspace", handle)
    return workspace


async def _update_unless_name_taken(
    app: App, caller: Caller, handle: str, changes: WorkspaceChange
) -> Workspace:
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    async with app.transaction(caller) as tx:
        other_id = await workspace_store.find_other_workspace_named(
            tx, caller.subject_id, workspace_id, changes.name or ""
        )
    if other_id is not None:
        raise NameTaken(changes.name or "", ids.format_handle(HandleKind.WORKSPACE, other_id))
    return await update_workspace(
        app, caller, handle, changes
    )  # the name has become free in the meantime


async def read_totals(app: App, caller: Caller, handle: str) -> WorkspaceStatus:
    """Return a workspace with the totals of its jobs.

    Raises:
        NotFound: the caller has no such workspace.
    """
    async with app.transaction(caller) as tx:
        return await _find_totals(tx, caller, handle)


async def show_workspace(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatusView:
    """Show a workspace with the totals of its jobs, and the newest of them.

    Raises:
        NotFound: the caller has no such workspace.
    """
    workspace = await _find_totals(tx, caller, handle)
    in_workspace = JobFilter(workspace.id, None, None, {})
    latest = await job_queries.list_jobs(
        tx, caller.subject_id, in_workspace, before=None, limit=MAX_LATEST_JOBS
    )
    return WorkspaceStatusView.from_totals(workspace, latest)


async def _find_totals(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatus:
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    workspace = await workspace_store.get_workspace_status(tx, caller.subject_id, workspace_id)
    if workspace is None:
        raise NotFound("workspace", handle)
    return workspace
