"""What can a caller do with workspaces, apart from how they ask for it?"""

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
    """Make a workspace; one of that name that is there already stays as it is.

    Raises:
        NamespaceDenied: the default namespace is not within the caller's reach.
    """
    caller.resolve_namespace(defaults.namespace)
    async with app.transaction(caller) as tx:
        made = await workspace_store.create_workspace(
            tx,
            caller.subject_id,
            ids.new_id(),
            name,
            budget_micro_usd=budget_micro_usd,
            defaults=defaults.to_patch(),
            client=CURRENT_CLIENT.get(),
        )
        kept = made or await workspace_store.find_workspace_by_name(tx, caller.subject_id, name)
    if kept is None:  # it was renamed in between
        return await create_workspace(
            app, caller, name, defaults, budget_micro_usd=budget_micro_usd
        )
    return CreatedWorkspaceView.from_workspace(kept, created=made is not None)


async def update_workspace(
    app: App, caller: Caller, handle: str, changes: WorkspaceChange
) -> Workspace:
    """Change a workspace, and no job.

    Raises:
        NotFound: the caller has no such workspace.
        NameTaken: they have another of that name; nothing is changed.
    """
    identity = ids.parse_handle(HandleKind.WORKSPACE, handle)
    try:
        async with app.transaction(caller) as tx:
            changed = await workspace_store.update_workspace(
                tx, caller.subject_id, identity, changes, client=CURRENT_CLIENT.get()
            )
    except UniqueViolationError:
        return await _update_unless_name_taken(app, caller, handle, changes)
    if changed is None:
        raise NotFound("workspace", handle)
    return changed


async def _update_unless_name_taken(
    app: App, caller: Caller, handle: str, changes: WorkspaceChange
) -> Workspace:
    identity = ids.parse_handle(HandleKind.WORKSPACE, handle)
    async with app.transaction(caller) as tx:
        other = await workspace_store.find_other_workspace_named(
            tx, caller.subject_id, identity, changes.name or ""
        )
    if other is not None:
        raise NameTaken(changes.name or "", ids.format_handle(HandleKind.WORKSPACE, other))
    return await update_workspace(app, caller, handle, changes)  # the name has become free since


async def read_totals(app: App, caller: Caller, handle: str) -> WorkspaceStatus:
    """Return a workspace with the sums of its jobs.

    Raises:
        NotFound: the caller has no such workspace.
    """
    async with app.transaction(caller) as tx:
        return await _find_totals(tx, caller, handle)


async def show_workspace(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatusView:
    """Show a workspace with the sums of its jobs, and the newest of them.

    Raises:
        NotFound: the caller has no such workspace.
    """
    found = await _find_totals(tx, caller, handle)
    inside = JobFilter(found.id, None, None, {})
    latest = await job_queries.list_jobs(
        tx, caller.subject_id, inside, before=None, limit=MAX_LATEST_JOBS
    )
    return WorkspaceStatusView.from_totals(found, latest)


async def _find_totals(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatus:
    identity = ids.parse_handle(HandleKind.WORKSPACE, handle)
    found = await workspace_store.get_workspace_status(tx, caller.subject_id, identity)
    if found is None:
        raise NotFound("workspace", handle)
    return found
