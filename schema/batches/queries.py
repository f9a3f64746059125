"""Reads of batches for their subject, and the copy of items into another batch.

An item that is still marked as sent when its batch is over is shown as unknown: nobody awaits it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

from schema.batches.store import COUNT_COLUMNS_SQL, BatchCounts
from schema.batches.tables import ItemState
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.tables import Reason

_SHOWN_STATE: Final = """
    CASE WHEN item.state = 'sent' AND job.finished_at IS NOT NULL THEN 'unknown'
         ELSE item.state END
"""

_COUNT_SUBJECT_ITEMS: Final = f"""
{COUNT_COLUMNS_SQL}
  FROM (SELECT {_SHOWN_STATE} AS state, item.prompt_tokens, item.completion_tokens
          FROM job
          JOIN batch_item AS item ON item.job_id = job.id
         WHERE job.subject_id = $1
           AND job.id = $2) AS stands
HAVING count(*) > 0
"""  # noqa: S608  # our own words

_LIST_ITEMS: Final = parse_statement(f"""
SELECT position, custom_id, state, tries,
       CASE WHEN length(message) > :max_chars
            THEN left(message, :max_chars / 2) || '…' || right(message, :max_chars / 2)
            ELSE message END AS message,
       coalesce(length(message) > :max_chars, false) AS is_message_cut,
       coalesce(reason, CASE state WHEN 'unknown' THEN 'outcome_unknown' END) AS reason,
       CASE WHEN length(written) <= :max_chars THEN result END AS result,
       CASE WHEN length(written) > :max_chars
            THEN left(coalesce(result ->> 'text', written), :max_chars) END AS excerpt,
       length(written) AS characters
  FROM (SELECT item.position, item.custom_id, {_SHOWN_STATE} AS state, item.tries, item.reason,
               item.message, item.result, item.result::text AS written
          FROM job
          JOIN batch_item AS item ON item.job_id = job.id
         WHERE job.subject_id = :subject_id
           AND job.id = :job_id
           AND item.position >= :start) AS stands
 WHERE state = ANY(:states::text[])
 ORDER BY position
 LIMIT :limit
""")  # noqa: S608  # our own words

# The inner limit comes first, so that no page looks at more rows than it may have. The stored size
# is known without reading a large value.
_LIST_WHOLE_ITEMS: Final = parse_statement(f"""
SELECT position, custom_id, state, message, result::text AS result_json,
       coalesce(reason, CASE state WHEN 'unknown' THEN 'outcome_unknown' END) AS reason
  FROM (SELECT near.*,
               sum(stored_bytes) OVER (ORDER BY position) - stored_bytes AS bytes_before
          FROM (SELECT item.position, item.custom_id, {_SHOWN_STATE} AS state, item.reason,
                       item.message, item.result,
                       coalesce(pg_column_size(item.result), 0)
                       + coalesce(pg_column_size(item.message), 0) AS stored_bytes
                  FROM job
                  JOIN batch_item AS item ON item.job_id = job.id
                 WHERE job.subject_id = :subject_id
                   AND job.id = :job_id
                   AND item.position >= :start
                 ORDER BY item.position
                 LIMIT :limit) AS near) AS page
 WHERE bytes_before < :max_bytes
 ORDER BY position
""")  # noqa: S608  # our own words

_COPY_ITEMS: Final = """
INSERT INTO batch_item (job_id, subject_id, position, custom_id, request)
SELECT $2, item.subject_id, row_number() OVER (ORDER BY item.position) - 1, item.custom_id,
       item.request
  FROM job
  JOIN batch_item AS item ON item.job_id = job.id
 WHERE job.subject_id = $1
   AND job.id = $3
   AND ($4 OR item.state <> 'done')
ON CONFLICT (job_id, position) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """An item with its outcome so far."""

    position: int
    custom_id: str
    state: ItemState
    tries: int
    reason: Reason | None
    message: str | None
    """The beginning and the end of one that is longer than the limit."""
    is_message_cut: bool
    result: dict[str, Any] | None
    """Its answer, unless that is longer than the limit."""
    excerpt: str | None
    """The beginning of an answer that is longer."""
    characters: int | None
    """The length of the answer as JSON."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row."""
        fields: dict[str, Any] = {**row, "state": ItemState(row["state"])}
        if row["reason"] is not None:
            fields["reason"] = Reason(row["reason"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class WholeItem:
    """An item with all of its outcome so far."""

    position: int
    custom_id: str
    state: str
    message: str | None
    result_json: str | None
    """Its answer, as JSON."""
    reason: str | None


async def count_subject_items(tx: Transaction, subject_id: str, job_id: UUID) -> BatchCounts | None:
    """Count the items of a batch of the subject; none while no items are known."""
    row = await tx.fetchrow(_COUNT_SUBJECT_ITEMS, subject_id, job_id)
    return None if row is None else BatchCounts(**row)


async def list_items(
    tx: Transaction,
    subject_id: str,
    job_id: UUID,
    *,
    states: Sequence[ItemState],
    start: int,
    limit: int,
    max_result_chars: int,
) -> list[ItemStatus]:
    """Return items of a batch of the subject, from position `start` on.

    Args:
        max_result_chars: how much is read of a result, and of a message, of each.
    """
    rows = await tx.fetch(
        *_LIST_ITEMS.bind(
            subject_id=subject_id,
            job_id=job_id,
            start=start,
            states=states,
            limit=limit,
            max_chars=max_result_chars,
        )
    )
    return [ItemStatus.from_row(row) for row in rows]


async def list_whole_items(
    tx: Transaction, subject_id: str, job_id: UUID, *, start: int, limit: int, max_bytes: int
) -> list[WholeItem]:
    """Return items of a batch of the subject in every state, from position `start` on.

    Args:
        limit: how many items at most.
        max_bytes: no item begins after so many bytes of outcomes, as they are stored.
    """
    rows = await tx.fetch(
        *_LIST_WHOLE_ITEMS.bind(
            subject_id=subject_id, job_id=job_id, start=start, limit=limit, max_bytes=max_bytes
        )
    )
    return [WholeItem(**row) for row in rows]


async def copy_items(
    tx: Transaction, subject_id: str, job_id: UUID, *, source_job_id: UUID, include_done: bool
) -> None:
    """Copy the items of an earlier batch into a new one.

    Args:
        job_id: the new batch.
        include_done: copy all items; otherwise only those without a result.
    """
    await tx.execute(_COPY_ITEMS, subject_id, job_id, source_job_id, include_done)
