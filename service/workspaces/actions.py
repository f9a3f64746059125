"""Actions on workspaces: create, change, show."""

from asyncpg.exceptions import UniqueViolationError

from schema.common import ids
from schema.common.errors import NameTaken, NotFound
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.monitoring.changes import MAX_LATEST_JOBS
from schema.jobs.queries import JobFilter
from schema.workspaces import store as workspace_store
from schema.workspaces import webhooks
from schema.workspaces.defaults import WorkspaceDefaults
from schema.workspaces.store import WorkspaceChange, WorkspaceStatus
from schema.workspaces.tables import Workspace
from schema.workspaces.webhooks import NewTarget
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.runtime.context import App
from service.workspaces.views import (
    NO_WEBHOOK,
    CreatedWorkspaceView,
    ShownWebhook,
    WorkspaceStatusView,
    WorkspaceView,
)
from service.workspaces.webhooks import NO_URL, new_target


async def create_workspace(
    app: App,
    caller: Caller,
    name: str,
    defaults: WorkspaceDefaults,
    *,
    budget_micro_usd: int | None,
    webhook_url: str | None = None,
) -> CreatedWorkspaceView:
    """Create a workspace; one that already has the name stays as it is, and is the answer.

    Raises:
        Invalid: nothing is sent to the webhook_url.
        NamespaceDenied: the caller may not use the default namespace.
    """
    caller.resolve_namespace(defaults.namespace)
    webhook = new_target(app, webhook_url)
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
        shown = NO_WEBHOOK
        if new_workspace is not None and webhook is not None:
            shown = await _set_webhook(tx, app, caller, new_workspace, webhook)
        elif workspace is not None:
            shown = await _show_webhook(tx, caller, workspace)
    if workspace is None:  # the other one was renamed between the two statements
        return await create_workspace(
            app,
            caller,
            name,
            defaults,
            budget_micro_usd=budget_micro_usd,
            webhook_url=webhook_url,
        )
    return CreatedWorkspaceView.from_workspace(workspace, shown, created=new_workspace is not None)


async def update_workspace(
    app: App,
    caller: Caller,
    handle: str,
    changes: WorkspaceChange,
    *,
    webhook_url: str | None = None,
) -> WorkspaceView:
    """Change a workspace; its jobs stay as they are.

    Args:
        app: the application.
        caller: whose workspace it is.
        handle: of the workspace.
        changes: of its row.
        webhook_url: where the ends of its jobs are announced from now on; "off" for nowhere, and
            None for where they are now.

    Raises:
        Invalid: nothing is sent to the webhook_url.
        NotFound: the caller has no such workspace.
        NameTaken: they have another workspace of that name; nothing has changed.
    """
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    webhook = new_target(app, None if webhook_url == NO_URL else webhook_url)
    try:
        async with app.transaction(caller) as tx:
            workspace = await workspace_store.update_workspace(
                tx, caller.subject_id, workspace_id, changes, client=CURRENT_CLIENT.get()
            )
            if workspace is None:
                raise NotFound("workspace", handle)
            if webhook_url is None:
                shown = await _show_webhook(tx, caller, workspace)
            else:
                shown = await _set_webhook(tx, app, caller, workspace, webhook)
    except UniqueViolationError:
        return await _update_unless_name_taken(app, caller, handle, changes, webhook_url)
    return WorkspaceView.from_workspace(workspace, shown)


async def _set_webhook(
    tx: Transaction, app: App, caller: Caller, workspace: Workspace, webhook: NewTarget | None
) -> ShownWebhook:
    """Announce the ends of its jobs at a URL, or nowhere; the row is locked by this transaction."""
    target_id = None
    if webhook is not None:
        target_id = await webhooks.name_target(tx, app.vault, caller.subject_id, webhook)
    host = None if webhook is None else webhook.url.host
    await webhooks.set_workspace_target(
        tx, workspace.id, caller.subject_id, target_id, host=host, client=CURRENT_CLIENT.get()
    )
    is_new = webhook is not None and target_id == webhook.target_id
    return ShownWebhook(host, webhook.secret.reveal() if webhook and is_new else None)


async def _show_webhook(tx: Transaction, caller: Caller, workspace: Workspace) -> ShownWebhook:
    if workspace.webhook_target_id is None:
        return NO_WEBHOOK
    return ShownWebhook(
        await webhooks.read_target_host(tx, caller.subject_id, workspace.webhook_target_id)
    )


async def _update_unless_name_taken(
    app: App, caller: Caller, handle: str, changes: WorkspaceChange, webhook_url: str | None
) -> WorkspaceView:
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    async with app.transaction(caller) as tx:
        other_id = await workspace_store.find_other_workspace_named(
            tx, caller.subject_id, workspace_id, changes.name or ""
        )
    if other_id is not None:
        raise NameTaken(changes.name or "", ids.format_handle(HandleKind.WORKSPACE, other_id))
    return await update_workspace(
        app, caller, handle, changes, webhook_url=webhook_url
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
    shown = await _show_webhook(tx, caller, workspace)
    return WorkspaceStatusView.from_totals(workspace, shown, latest)


async def _find_totals(tx: Transaction, caller: Caller, handle: str) -> WorkspaceStatus:
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, handle)
    workspace = await workspace_store.get_workspace_status(tx, caller.subject_id, workspace_id)
    if workspace is None:
        raise NotFound("workspace", handle)
    return workspace
