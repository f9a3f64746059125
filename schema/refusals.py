"""Why a job that was asked for cannot be: what there is no room for, and who says so."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from schema import budgets, handles
from schema.budgets import Rate
from schema.database import Transaction
from schema.errors import HoldfastError, LimitReached, NotFound, Unavailable, WorkspaceArchived

_OPEN: Final = "SELECT queued + active FROM subject WHERE id = $1"


async def refusal(
    tx: Transaction,
    row: Mapping[str, Any],
    subject_id: str,
    *,
    most_open: int,
    workspace_id: UUID | None,
    parents: Sequence[UUID],
    rate: Rate | None,
    monthly_budget: int | None,
) -> HoldfastError | None:
    """Say why a job that was just written must not be committed, if so."""
    if not row["counted"]:
        open_jobs: int = await tx.fetchval(_OPEN, subject_id)
        return LimitReached(open_jobs=open_jobs, most=most_open)
    if not row["related"]:
        named = [handles.write(handles.Kind.JOB, parent) for parent in parents]
        return NotFound("job", ", ".join(named))
    if not row["entered"]:
        assert workspace_id is not None  # noqa: S101  # only a workspace can be archived
        return WorkspaceArchived(handles.write(handles.Kind.WORKSPACE, workspace_id))
    if not row["held"]:
        # What the workspace had room for is counted by now, until the caller rolls it back.
        group = None if row["grouped"] else workspace_id
        return await _no_room(tx, subject_id, group, rate, monthly_budget)
    return None


async def _no_room(
    tx: Transaction,
    subject_id: str,
    workspace_id: UUID | None,
    rate: Rate | None,
    monthly_budget: int | None,
) -> HoldfastError:
    kept = await budgets.accounts(tx, subject_id, workspace_id, monthly=monthly_budget)
    # A job that was cancelled meanwhile has made room by now; then the same call succeeds.
    return budgets.lacking(kept, rate) or Unavailable("The budget")
