"""Workspaces: create, read and update.

An update is one statement: it locks the workspace, sets what was given, and writes what is
different afterwards into the audit log. It never touches a job: a job keeps what it was launched
with, even where a new budget is smaller than what is held. A launch locks the same row, so a launch
and an archive, or a new budget, come one after the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from schema.accounts import audit
from schema.common import ids
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.workspaces.tables import Workspace

_UPDATE_WORKSPACE: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT * FROM workspace WHERE id = :workspace_id AND subject_id = :subject_id FOR NO KEY UPDATE
), changed AS (
    UPDATE workspace
       SET name = coalesce(:name, before.name),
           defaults = jsonb_strip_nulls(before.defaults || :defaults),
           confirm_above_micro_usd = CASE WHEN :sets_confirmation THEN :confirm_above_micro_usd
                                          ELSE before.confirm_above_micro_usd END,
           budget_micro_usd = CASE WHEN :sets_budget THEN :budget_micro_usd
                                   ELSE before.budget_micro_usd END,
           archived_at = CASE WHEN :archived THEN coalesce(before.archived_at, now())
                              WHEN NOT :archived THEN NULL
                              ELSE before.archived_at END
      FROM before
     WHERE workspace.id = before.id
    RETURNING workspace.*
), different AS (
    SELECT jsonb_object_agg(now_has.key, now_has.value) AS facts
      FROM changed, before, jsonb_each(to_jsonb(changed)) AS now_has
     WHERE now_has.value IS DISTINCT FROM to_jsonb(before) -> now_has.key
), noted AS (
    INSERT INTO audit_entry (subject_id, client, action, handle, facts)
    SELECT :subject_id, :client,
           CASE jsonb_typeof(facts -> 'archived_at') WHEN 'string' THEN 'workspace_archived'
                                                     ELSE 'workspace_updated' END,
           :handle, facts
      FROM different
     WHERE facts IS NOT NULL
)
SELECT * FROM changed
""")

_FIND_OTHER_WORKSPACE: Final = (
    "SELECT id FROM workspace WHERE subject_id = $1 AND name = $2 AND id <> $3"
)

_GET_WORKSPACE_STATUS: Final = """
SELECT workspace.*, jobs.*
  FROM workspace,
       LATERAL (
           SELECT coalesce(sum(counted), 0)::bigint AS jobs,
                  coalesce(sum(counted) FILTER (
                               WHERE state IN ('queued', 'launching', 'running')), 0)::bigint
                      AS open_jobs,
                  coalesce(jsonb_object_agg(state, counted), '{}') AS states,
                  coalesce(round(sum(seconds)), 0)::bigint AS run_seconds
             FROM (SELECT state, count(*) AS counted,
                          -- The clocks of the Hub and of Postgres may differ.
                          sum(greatest(extract(epoch FROM coalesce(finished_at, now())
                                                          - started_at), 0)) AS seconds
                     FROM job
                    WHERE job.workspace_id = workspace.id
                    GROUP BY state) AS by_state
       ) AS jobs
 WHERE workspace.subject_id = $1
   AND workspace.id = $2
"""


@dataclass(frozen=True, slots=True)
class WorkspaceChange:
    """The fields to change; what is not given stays as it is."""

    name: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """A null removes that default."""
    sets_confirmation: bool = False
    confirm_above_micro_usd: int | None = None
    """None, if `sets_confirmation`: the person is never asked."""
    sets_budget: bool = False
    budget_micro_usd: int | None = None
    """None, if `sets_budget`: its jobs may cost any amount."""
    archived: bool | None = None


class WorkspaceStatus(Workspace):
    """A workspace, and the sums of its jobs."""

    jobs: int
    open_jobs: int
    states: dict[str, int]
    """How many jobs are in each state; states without jobs are left out."""
    run_seconds: int
    """How long all its jobs together have run at the Hub until now."""


async def find_other_workspace_named(
    tx: Transaction, subject_id: str, workspace_id: UUID, name: str
) -> UUID | None:
    """Return another workspace of the subject that has this name."""
    other_id: UUID | None = await tx.fetchval(_FIND_OTHER_WORKSPACE, subject_id, name, workspace_id)
    return other_id


async def update_workspace(
    tx: Transaction,
    subject_id: str,
    workspace_id: UUID,
    changes: WorkspaceChange,
    *,
    client: str | None = None,
) -> Workspace | None:
    """Update a workspace of the subject; the same update again changes, and records, nothing.

    Raises:
        UniqueViolationError: another workspace has that name; the caller's transaction is lost.
    """
    row = await tx.fetchrow(
        *_UPDATE_WORKSPACE.bind(
            subject_id=subject_id,
            workspace_id=workspace_id,
            name=changes.name,
            defaults=dict(changes.defaults),
            sets_confirmation=changes.sets_confirmation,
            confirm_above_micro_usd=changes.confirm_above_micro_usd,
            sets_budget=changes.sets_budget,
            budget_micro_usd=changes.budget_micro_usd,
            archived=changes.archived,
            client=client,
            handle=ids.format_handle(ids.HandleKind.WORKSPACE, workspace_id),
        )
    )
    return None if row is None else Workspace.from_row(row)


async def get_workspace_status(
    tx: Transaction, subject_id: str, workspace_id: UUID
) -> WorkspaceStatus | None:
    """Return a workspace of the subject with the sums of its jobs."""
    row = await tx.fetchrow(_GET_WORKSPACE_STATUS, subject_id, workspace_id)
    return None if row is None else WorkspaceStatus.from_row(row)


_LIST_WORKSPACES: Final = """
SELECT workspace.*, count(job.id) AS jobs,
       count(job.id) FILTER (WHERE job.finished_at IS NULL) AS open_jobs
  FROM workspace
  LEFT JOIN job ON job.workspace_id = workspace.id
 WHERE workspace.subject_id = $1
   AND ($2::uuid IS NULL OR workspace.id < $2)
   AND ($4 OR workspace.archived_at IS NULL)
 GROUP BY workspace.id
 ORDER BY workspace.id DESC
 LIMIT $3
"""


_CREATE_WORKSPACE: Final = parse_statement("""
INSERT INTO workspace (id, subject_id, name, budget_micro_usd, defaults)
VALUES (:workspace_id, :subject_id, :name, :budget_micro_usd, jsonb_strip_nulls(:defaults))
ON CONFLICT (subject_id, name) DO NOTHING
RETURNING *
""")


_GET_WORKSPACE: Final = "SELECT * FROM workspace WHERE subject_id = $1 AND id = $2"


_FIND_WORKSPACE_BY_NAME: Final = "SELECT * FROM workspace WHERE subject_id = $1 AND name = $2"


class WorkspaceSummary(Workspace):
    """A workspace and how many jobs it holds."""

    jobs: int
    open_jobs: int


async def create_workspace(
    tx: Transaction,
    subject_id: str,
    workspace_id: UUID,
    name: str,
    *,
    budget_micro_usd: int | None = None,
    defaults: Mapping[str, Any] | None = None,
    client: str | None = None,
) -> Workspace | None:
    """Create a workspace; none if the subject has one of that name."""
    row = await tx.fetchrow(
        *_CREATE_WORKSPACE.bind(
            workspace_id=workspace_id,
            subject_id=subject_id,
            name=name,
            budget_micro_usd=budget_micro_usd,
            defaults=dict(defaults or {}),
        )
    )
    workspace = _workspace_from_row(row)
    if workspace is not None:
        handle = ids.format_handle(ids.HandleKind.WORKSPACE, workspace.id)
        await audit.write_audit_entry(
            tx,
            audit.AuditAction.WORKSPACE_MADE,
            subject_id=subject_id,
            client=client,
            handle=handle,
        )
    return workspace


async def get_workspace(tx: Transaction, subject_id: str, workspace_id: UUID) -> Workspace | None:
    """Return one workspace of the subject."""
    return _workspace_from_row(await tx.fetchrow(_GET_WORKSPACE, subject_id, workspace_id))


async def find_workspace_by_name(tx: Transaction, subject_id: str, name: str) -> Workspace | None:
    """Return the subject's workspace of that name."""
    return _workspace_from_row(await tx.fetchrow(_FIND_WORKSPACE_BY_NAME, subject_id, name))


async def list_workspaces(
    tx: Transaction,
    subject_id: str,
    *,
    before: UUID | None,
    limit: int,
    include_archived: bool = False,
) -> list[WorkspaceSummary]:
    """Return the newest workspaces of the subject that are older than `before`."""
    rows = await tx.fetch(_LIST_WORKSPACES, subject_id, before, limit, include_archived)
    return [WorkspaceSummary.from_row(row) for row in rows]


def _workspace_from_row(row: Mapping[str, Any] | None) -> Workspace | None:
    return None if row is None else Workspace.from_row(row)
