"""What can a caller do with workspaces, apart from how they ask for it?"""

from asyncpg.exceptions import UniqueViolationError

from schema.common import ids
from schema.common.errors import NameTaken, NotFound
from schema.common.ids import Kind
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.queries import Filter
from schema.workspaces import store as workspace_store
from schema.workspaces.defaults import Defaults
from schema.workspaces.store import Change, RolledUp
from schema.workspaces.tables import Workspace
from service.auth.caller import Caller
from service.auth.client_info import CLIENT
from service.runtime.context import App
from service.workspaces.views import NEWEST, MadeWorkspaceView, WorkspaceStatusView


async def make(
    app: App, caller: Caller, name: str, defaults: Defaults, *, budget: int | None
) -> MadeWorkspaceView:
    """Make a workspace; one of that name that is there already stays as it is.

    Raises:
        NamespaceDenied: the default namespace is not within the caller's reach.
    """
    caller.namespace(defaults.namespace)
    async with app.transaction(caller) as tx:
        made = await workspace_store.make_workspace(
            tx,
            caller.subject_id,
            ids.new_id(),
            name,
            budget_micro_usd=budget,
            defaults=defaults.given(),
            client=CLIENT.get(),
        )
        kept = made or await workspace_store.workspace_named(tx, caller.subject_id, name)
    if kept is None:  # it was renamed in between
        return await make(app, caller, name, defaults, budget=budget)
    return MadeWorkspaceView.of(kept, created=made is not None)


async def change(app: App, caller: Caller, handle: str, wanted: Change) -> Workspace:
    """Change a workspace, and no job.

    Raises:
        NotFound: the caller has no such workspace.
        NameTaken: they have another of that name; nothing is changed.
    """
    identity = ids.read(Kind.WORKSPACE, handle)
    try:
        async with app.transaction(caller) as tx:
            changed = await workspace_store.change(
                tx, caller.subject_id, identity, wanted, client=CLIENT.get()
            )
    except UniqueViolationError:
        return await _change_unless_taken(app, caller, handle, wanted)
    if changed is None:
        raise NotFound("workspace", handle)
    return changed


async def _change_unless_taken(app: App, caller: Caller, handle: str, wanted: Change) -> Workspace:
    identity = ids.read(Kind.WORKSPACE, handle)
    async with app.transaction(caller) as tx:
        other = await workspace_store.named_alike(
            tx, caller.subject_id, identity, wanted.name or ""
        )
    if other is not None:
        raise NameTaken(wanted.name or "", ids.write(Kind.WORKSPACE, other))
    return await change(app, caller, handle, wanted)  # the name has become free since


async def count(app: App, caller: Caller, handle: str) -> RolledUp:
    """Return a workspace with the sums of its jobs.

    Raises:
        NotFound: the caller has no such workspace.
    """
    async with app.transaction(caller) as tx:
        return await _rolled_up(tx, caller, handle)


async def look(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatusView:
    """Show a workspace with the sums of its jobs, and the newest of them.

    Raises:
        NotFound: the caller has no such workspace.
    """
    found = await _rolled_up(tx, caller, handle)
    inside = Filter(found.id, None, None, {})
    latest = await job_queries.page(tx, caller.subject_id, inside, before=None, limit=NEWEST)
    return WorkspaceStatusView.rolled_up(found, latest)


async def _rolled_up(tx: Transaction, caller: Caller, handle: str) -> RolledUp:
    identity = ids.read(Kind.WORKSPACE, handle)
    found = await workspace_store.roll_up(tx, caller.subject_id, identity)
    if found is None:
        raise NotFound("workspace", handle)
    return found
