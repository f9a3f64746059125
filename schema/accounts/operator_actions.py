"""What an operator does to a subject: limit how many jobs run at a time, hold them, release them.

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

_FIND_SUBJECTS: Final = """
SELECT id, name, active, queued, max_active, hold
  FROM subject
 WHERE id = $1 OR name = $1
 ORDER BY name, id
"""

_LIST_SUBJECTS: Final = """
SELECT id, name, active, queued, max_active, hold
  FROM subject
 ORDER BY active + queued DESC, name, id
 LIMIT $1
"""

_LIMIT_SUBJECT: Final = """
UPDATE subject SET max_active = $2 WHERE id = $1
RETURNING id, name, active, queued, max_active, hold
"""

_HOLD_SUBJECT: Final = """
UPDATE subject
   SET hold = 'operator',
       held_at = now()
 WHERE id = $1
   AND hold IS DISTINCT FROM 'operator'
RETURNING id, name, active, queued, max_active, hold
"""

# The Hub may have refused the token meanwhile: then their jobs wait for another one.
_RELEASE_SUBJECT: Final = """
UPDATE subject
   SET hold = CASE WHEN refused.subject_id IS NULL THEN NULL ELSE 'credentials' END,
       held_at = CASE WHEN refused.subject_id IS NULL THEN NULL ELSE now() END
  FROM (SELECT 1) AS one
  LEFT JOIN credential AS refused ON refused.subject_id = $1 AND refused.state = 'refused'
 WHERE subject.id = $1
   AND subject.hold = 'operator'
RETURNING id, name, active, queued, max_active, hold
"""


@dataclass(frozen=True, slots=True)
class SubjectLimits:
    """What an operator sees of a subject."""

    id: str
    name: str
    active: int
    """Jobs that are being launched, or run."""
    queued: int
    max_active: int
    hold: Hold | None

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
    tx: Transaction, subject_id: str, *, max_active: int
) -> SubjectLimits | None:
    """Set how many jobs of a subject may run at a time; those that run already go on."""
    row = await tx.fetchrow(_LIMIT_SUBJECT, subject_id, max_active)
    return await _record_action(tx, AuditAction.SUBJECT_LIMITED, row, max_active=max_active)


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
