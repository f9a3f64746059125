"""Which of a subject's things have a handle that begins so? For whoever remembers half of one."""

from collections.abc import Sequence
from typing import Final

from schema import handles
from schema.database import Transaction
from schema.handles import Kind

_JOBS: Final = """
SELECT id FROM job WHERE subject_id = $1 AND id BETWEEN $2 AND $3 ORDER BY id DESC LIMIT $4
"""

_WORKSPACES: Final = """
SELECT id FROM workspace WHERE subject_id = $1 AND id BETWEEN $2 AND $3 ORDER BY id DESC LIMIT $4
"""


async def beginning(
    tx: Transaction, subject_id: str, kind: Kind, start: str, *, limit: int
) -> Sequence[str]:
    """Return the newest handles of the subject's that begin so."""
    span = handles.span(kind, start)
    if span is None:
        return []
    statement = {Kind.JOB: _JOBS, Kind.WORKSPACE: _WORKSPACES}[kind]
    rows = await tx.fetch(statement, subject_id, *span, limit)
    return [handles.write(kind, row["id"]) for row in rows]
