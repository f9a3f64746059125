"""The dry run of a launch: it checks what a launch checks, and makes nothing."""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ConfigDict, RootModel

from schema.artifacts import uploads
from schema.billing import budgets
from schema.common.errors import Denied, LimitReached, WorkspaceArchived
from schema.common.money import to_usd
from schema.common.text import truncate
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobKind
from schema.specs.inputs.upload_handles import find_upload_ids
from service.auth.caller import Caller
from service.jobs import operations
from service.jobs.launch import LaunchRequest
from service.runtime.context import App
from service.views.answers import shorten_members
from service.views.base import Detail, View
from service.views.jobs import LaunchedView
from service.views.text import fit_text

_MAX_SPEC_BYTES: Final = 5000
"""What a request takes in a reply, once as words and once as an object."""
_MAX_SCRIPT_CHARS: Final = 500
"""Characters of a script that are repeated."""


class DryRunView(View):
    """What a launch would be; nothing was launched."""

    dry_run: Detail[Literal[True]]
    needs: list[str]
    """What it lacks; empty if it would be launched."""
    namespace: Detail[str]
    spec: Detail[dict[str, Any]]
    """What would be launched; of secrets only the names."""
    shortened: Detail[bool]
    """Long values of spec are cut here; what is launched is whole."""
    labels: Detail[dict[str, str]]
    notes: Detail[list[str]]
    """What of it came from its workspace."""
    ceiling_usd: Detail[float | None]
    budget_left_usd: Detail[float | None]
    """None: no budget bounds it."""


class LaunchAnswer(RootModel[LaunchedView | DryRunView]):
    """A job that was made, or what a dry run found."""

    model_config = ConfigDict(json_schema_extra={"type": "object"})


def describe_request(
    subject: str, spec: Mapping[str, Any], labels: Mapping[str, str], *, shortened: bool
) -> str:
    """Write a request as compact JSON, behind what it is; say so if not all of it is shown."""
    request = {name: value for name, value in spec.items() if value not in (None, [], {})}
    written = json.dumps({**request, **({"labels": labels} if labels else {})}, ensure_ascii=False)
    shown = fit_text(written, _MAX_SPEC_BYTES, keeps_end=True)
    is_whole = shown == written and not shortened
    return f"{subject}{'' if is_whole else ', shortened here'}: {shown}"


async def dry_run_launch(app: App, caller: Caller, request: LaunchRequest) -> DryRunView:
    """Say what a launch would cost at worst, and what it lacks, if anything.

    Raises:
        NotFound: the caller has no such upload.
    """
    needs = await _check_permission(app, caller, request)
    async with app.transaction(caller) as tx:
        needs += await _check_workspace(tx, caller, request.workspace_id)
        upload_ids = request.upload_ids | find_upload_ids(request.spec)
        await uploads.find_uploads(tx, caller.subject_id, upload_ids)
        subject = await job_queries.get_subject_status(tx, caller.subject_id)
        accounts = await budgets.read_budgets(
            tx,
            caller.subject_id,
            request.workspace_id,
            default_monthly_budget=app.monthly_budget_micro_usd,
        )
    if subject.open_jobs >= app.max_open_jobs:
        limit = LimitReached(open_jobs=subject.open_jobs, max_open_jobs=app.max_open_jobs)
        needs.append(str(limit))
    if (exceeded := budgets.find_exceeded_budget(accounts, request.rate)) is not None:
        needs.append(str(exceeded))
    remaining = [account.remaining_micro_usd for account in accounts]
    budgets_left = [amount for amount in remaining if amount is not None]
    spec = _shorten_spec(request.spec)
    return DryRunView(
        dry_run=True,
        needs=needs,
        namespace=request.namespace,
        spec=spec,
        shortened=spec != request.spec,
        labels=request.labels,
        notes=request.short_notes,
        ceiling_usd=None if request.rate is None else to_usd(request.rate.ceiling_micro_usd),
        budget_left_usd=to_usd(min(budgets_left)) if budgets_left else None,
    )


def _shorten_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Repeat what fits of a request, and only the beginning of a long script."""
    script = spec.get("script")
    shown = {**spec, "script": truncate(script, _MAX_SCRIPT_CHARS)} if script else spec
    return shorten_members(shown, _MAX_SPEC_BYTES)


async def _check_permission(app: App, caller: Caller, request: LaunchRequest) -> list[str]:
    if request.kind != JobKind.HUB_JOB:
        return []
    try:
        await app.require_launch_permission(caller, request.namespace)
    except Denied as denial:
        return [str(denial)]
    return []


async def _check_workspace(tx: Transaction, caller: Caller, workspace_id: UUID | None) -> list[str]:
    try:
        await operations.expect_not_archived(tx, caller, workspace_id)
    except WorkspaceArchived as refusal:
        return [str(refusal)]
    return []
