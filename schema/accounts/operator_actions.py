"""What an operator does to a subject: limit how many jobs run at a time, hold them, release them.

The limits of the settings are in the row of the deployment, so that every process counts by the
same ones.

A hold of the operator stops launches and schedules, and nothing else: what runs is watched, a job
that was called off is killed, and results are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from schema.accounts import audit
from schema.accounts.audit import AuditAction
from schema.accounts.tables import Hold
from schema.db.database import Transaction

_COLUMNS: Final = """subject.id, subject.name, subject.active, subject.queued, subject.hold,
       coalesce(subject.max_active, deployment.max_active) AS max_active,
       deployment.max_active_by_kind || subject.max_active_by_kind AS max_active_by_kind"""

_FIND_SUBJECTS: Final = f"""
SELECT {_COLUMNS}
  FROM subject
 CROSS JOIN deployment
 WHERE subject.id = $1 OR subject.name = $1
 ORDER BY subject.name, subject.id
"""  # noqa: S608  # our own words

_LIST_SUBJECTS: Final = f"""
SELECT {_COLUMNS}
  FROM subject
 CROSS JOIN deployment
 ORDER BY active + queued DESC, subject.name, subject.id
 LIMIT $1
"""  # noqa: S608  # our own words

_LIMIT_SUBJECT: Final = f"""
UPDATE subject
   SET max_active = $2
  FROM deployment
 WHERE subject.id = $1
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own words

_LIMIT_KIND: Final = f"""
UPDATE subject
   SET max_active_by_kind = CASE
           WHEN $2::int IS NULL THEN subject.max_active_by_kind - $3::text
           ELSE subject.max_active_by_kind || jsonb_build_object($3::text, $2::int) END
  FROM deployment
 WHERE subject.id = $1
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own words

_HOLD_SUBJECT: Final = f"""
UPDATE subject
   SET hold = 'operator',
       held_at = now()
  FROM deployment
 WHERE subject.id = $1
   AND hold IS DISTINCT FROM 'operator'
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own words

# The Hub may have refused the token meanwhile: then their jobs wait for another one.
_RELEASE_SUBJECT: Final = f"""
UPDATE subject
   SET hold = CASE WHEN refused.subject_id IS NULL THEN NULL ELSE 'credentials' END,
       held_at = CASE WHEN refused.subject_id IS NULL THEN NULL ELSE now() END
  FROM deployment
  LEFT JOIN credential AS refused ON refused.subject_id = $1 AND refused.state = 'refused'
 WHERE subject.id = $1
   AND subject.hold = 'operator'
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own words

_SAVE_DEFAULT_LIMITS: Final = """
UPDATE deployment
   SET max_active = $1,
       max_active_by_kind = $2
 WHERE (max_active, max_active_by_kind) IS DISTINCT FROM ($1, $2::jsonb)
"""


@dataclass(frozen=True, slots=True)
class SubjectLimits:
    """What an operator sees of a subject."""

    id: str
    name: str
    active: int
    """Jobs that are being launched, or run."""
    queued: int
    hold: Hold | None
    max_active: int
    """How many of their jobs may run at a time: their own limit, or that of the deployment."""
    max_active_by_kind: dict[str, int]
    """The same of the kinds that have such a limit."""

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Read a row."""
        fields: dict[str, Any] = {**row}
        fields["hold"] = None if row["hold"] is None else Hold(row["hold"])
        return cls(**fields)


async def find_subjects(tx: Transaction, id_or_name: str) -> list[SubjectLimits]:
    """Return the subjects with an id or a name; a name can stand for several."""
    return [SubjectLimits.from_row(row) for row in await tx.fetch(_FIND_SUBJECTS, id_or_name)]


async def list_subjects(tx: Transaction, *, limit: int) -> list[SubjectLimits]:
    """Return subjects, those with the most unfinished jobs first."""
    return [SubjectLimits.from_row(row) for row in await tx.fetch(_LIST_SUBJECTS, limit)]


async def limit_subject(
    tx: Transaction, subject_id: str, *, max_active: int | None, kind: str | None = None
) -> SubjectLimits | None:
    """Set how many jobs of a subject may run at a time; those that run already go on.

    Args:
        max_active: None is the default of the deployment.
        kind: the kind of job that is limited; None is all jobs together.
    """
    if kind is None:
        row = await tx.fetchrow(_LIMIT_SUBJECT, subject_id, max_active)
        return await _record_action(tx, AuditAction.SUBJECT_LIMITED, row, max_active=max_active)
    row = await tx.fetchrow(_LIMIT_KIND, subject_id, max_active, kind)
    return await _record_action(
        tx, AuditAction.SUBJECT_LIMITED, row, max_active=max_active, kind=kind
    )


async def save_default_limits(
    tx: Transaction, *, max_active: int, max_active_by_kind: Mapping[str, int]
) -> None:
    """Save how many jobs of a subject without limits of their own may run at a time."""
    await tx.execute(_SAVE_DEFAULT_LIMITS, max_active, dict(max_active_by_kind))


async def hold_subject(tx: Transaction, subject_id: str) -> SubjectLimits | None:
    """Launch nothing of a subject any more; None if they are held already."""
    row = await tx.fetchrow(_HOLD_SUBJECT, subject_id)
    return await _record_action(tx, AuditAction.SUBJECT_HELD, row)


async def release_subject(tx: Transaction, subject_id: str) -> SubjectLimits | None:
    """End a hold of the operator; None if there is none."""
    row = await tx.fetchrow(_RELEASE_SUBJECT, subject_id)
    return await _record_action(tx, AuditAction.SUBJECT_RELEASED, row)


async def _record_action(
    tx: Transaction, action: AuditAction, row: Mapping[str, Any] | None, **facts: Any
) -> SubjectLimits | None:
    """Record an action that has changed a row, and return the subject as it is now."""
    if row is None:
        return None
    subject = SubjectLimits.from_row(row)
    await audit.write_audit_entry(tx, action, subject_id=subject.id, **facts)
    return subject
