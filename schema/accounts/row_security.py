"""Who may see which rows, as Postgres enforces it by itself.

Every table with a subject has row-level security, forced. A process connects as one of the roles
below; a tenant sees the rows of the subject its transaction acts for, and none while it acts for
nobody. A forgotten WHERE therefore shows nothing of anybody else's.
"""

from enum import StrEnum
from typing import Final

from schema.accounts.tables import Hold
from schema.db.database import Transaction


class DatabaseRole(StrEnum):
    """As whom a process speaks to Postgres; the login it connects with is a member of the role."""

    TENANT = "holdfast_tenant"
    """The service: what one subject at a time may do, without reading what is sealed."""

    WORKER = "holdfast_worker"
    """The workers: all subjects."""

    ANALYST = "holdfast_analyst"
    """People who ask by SQL: everything but secrets and requests, and nothing to be written."""


# The setting is there before the row is looked for, and gone at the end of the transaction.
_SET_SUBJECT: Final = """
WITH acting AS MATERIALIZED (SELECT set_config('holdfast.subject', $1, true) AS subject_id)
SELECT own.hold
  FROM acting LEFT JOIN LATERAL (
      SELECT hold FROM subject WHERE id = $1 AND acting.subject_id IS NOT NULL) AS own ON true
"""


async def act_as_subject(tx: Transaction, subject_id: str) -> Hold | None:
    """Act for a subject until this transaction ends; say whether their jobs are held."""
    hold: str | None = await tx.fetchval(_SET_SUBJECT, subject_id)
    return None if hold is None else Hold(hold)
