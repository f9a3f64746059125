"""What would a launch do? Everything is looked at that it looks at, and nothing is made."""

from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ConfigDict, RootModel

from schema.billing import budgets
from schema.common import ids
from schema.common.errors import Denied, LimitReached, WorkspaceArchived
from schema.common.ids import Kind
from schema.common.money import usd
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobKind
from schema.workspaces import store as workspace_store
from service.auth.caller import Caller
from service.jobs.launch import Request
from service.runtime.context import App
from service.views.base import Detail, View
from service.views.jobs import LaunchedView

_SHOWN: Final = 500
"""Characters of a script that are repeated."""


class DryRunView(View):
    """What a launch would be; nothing was launched."""

    dry_run: Literal[True]
    needs: list[str]
    """What it lacks; nothing, if it would be launched."""
    namespace: Detail[str]
    spec: Detail[dict[str, Any]]
    """What would be asked for, of secrets only the names."""
    labels: Detail[dict[str, str]]
    notes: Detail[list[str]]
    """What of it came from its workspace."""
    ceiling_usd: float | None
    budget_left_usd: float | None
    """None: no budget bounds it."""


class LaunchAnswer(RootModel[LaunchedView | DryRunView]):
    """A job that was made, or what a dry run found."""

    model_config = ConfigDict(json_schema_extra={"type": "object"})


async def rehearse(app: App, caller: Caller, request: Request) -> DryRunView:
    """Say what a launch would cost at worst, and what it lacks, if anything."""
    needs = await _permission(app, caller, request)
    async with app.transaction(caller) as tx:
        needs += await _entry(tx, caller, request.workspace_id)
        standing = await job_queries.standing(tx, caller.subject_id)
        accounts = await budgets.accounts(
            tx, caller.subject_id, request.workspace_id, monthly=app.monthly_budget
        )
    if standing.open_jobs >= app.open_jobs:
        needs.append(str(LimitReached(open_jobs=standing.open_jobs, most=app.open_jobs)))
    if (lacking := budgets.lacking(accounts, request.rate)) is not None:
        needs.append(str(lacking))
    room = [left for each in accounts if (left := each.left_micro_usd) is not None]
    return DryRunView(
        dry_run=True,
        needs=needs,
        namespace=request.namespace,
        spec=_brief(request.spec),
        labels=request.labels,
        notes=request.notes,
        ceiling_usd=None if request.rate is None else usd(request.rate.ceiling_micro_usd),
        budget_left_usd=usd(min(room)) if room else None,
    )


def _brief(spec: dict[str, Any]) -> dict[str, Any]:
    """Repeat no more of a script than tells which it is."""
    text = spec.get("script", "")
    return spec if len(text) <= _SHOWN else spec | {"script": f"{text[:_SHOWN]}…"}


async def _permission(app: App, caller: Caller, request: Request) -> list[str]:
    if request.kind != JobKind.HUB_JOB:
        return []
    try:
        await app.expect_may_launch(caller, request.namespace)
    except Denied as no:
        return [str(no)]
    return []


async def _entry(tx: Transaction, caller: Caller, workspace_id: UUID | None) -> list[str]:
    if workspace_id is None:
        return []
    workspace = await workspace_store.workspace(tx, caller.subject_id, workspace_id)
    if workspace is None or workspace.archived_at is None:
        return []
    return [str(WorkspaceArchived(ids.write(Kind.WORKSPACE, workspace_id)))]
