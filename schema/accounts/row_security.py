"""Row-level security: the database roles, and the subject that a transaction acts for.

Postgres itself enforces it. Every table with a subject has row-level security, forced. A process
connects as one of the roles below. A tenant sees the rows of the subject that its transaction acts
for, and no rows while it acts for nobody, so a forgotten WHERE shows nothing of another subject.
"""

from enum import StrEnum
from typing import Final

from schema.accounts.tables import Hold
from schema.db.database import Database, Transaction


class DatabaseRole(StrEnum):
    """The role of a process in Postgres; the login it connects with is a member of the role."""

    TENANT = "holdfast_tenant"
    """The service: acts for one subject at a time, and cannot read what is sealed."""

    WORKER = "holdfast_worker"
    """The workers: all subjects."""

    ANALYST = "holdfast_analyst"
    """People who query by SQL: read everything but secrets and requests, and write nothing."""


# It is set before the row is read, and is gone at the end of the transaction.
_SET_SUBJECT: Final = """
WITH acting AS MATERIALIZED (SELECT set_config('holdfast.subject', $1, true) AS subject_id)
SELECT CASE WHEN own.id IS NULL THEN 'credentials' ELSE own.hold END
  FROM acting
  LEFT JOIN LATERAL (
      SELECT id, coalesce(hold, CASE WHEN EXISTS (
                 SELECT FROM restored_subject AS restored
                  WHERE restored.subject_id = $1
                    AND restored.reconciled_at IS NULL) THEN 'restore' END) AS hold
        FROM subject
       WHERE id = $1
         AND acting.subject_id IS NOT NULL
  ) AS own ON true
"""


def open_worker_database(url: str, *, application_name: str, pooled: bool) -> Database:
    """Return a database for one command of an operator: as a worker, with one connection.

    Args:
        url: of the server, with the login of the operator.
        application_name: under which the server lists the connection.
        pooled: whether a pooler in transaction mode stands between.
    """
    return Database(
        url,
        application_name=application_name,
        role=DatabaseRole.WORKER,
        max_connections=1,
        pooled=pooled,
    )


async def act_as_sign_in(tx: Transaction, sign_in_id: str) -> None:
    """See the account that is connected with a sign-in until this transaction ends.

    Args:
        sign_in_id: of `connections.hash_sign_in`; the sign-in has been verified.
    """
    await tx.execute("SELECT set_config('holdfast.sign_in', $1, true)", sign_in_id)


async def act_as_subject(tx: Transaction, subject_id: str) -> Hold | None:
    """Act for a subject until this transaction ends; return why their jobs are held, if so.

    Of whoever is not known, or no longer, no token is stored: their jobs would wait for one.
    """
    hold: str | None = await tx.fetchval(_SET_SUBJECT, subject_id)
    return None if hold is None else Hold(hold)
