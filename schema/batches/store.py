"""The transitions of the items of a batch: added, marked as sent, settled, and recovered.

Every transition by a worker is fenced by its run, which has to be open: a worker whose lease lapsed
and was taken over writes nothing, neither a mark nor an answer. An item is sent only after its mark
was committed, and a job has at most one open run, so two workers never send an item at a time.
What a run left marked, the next run settles by the caller's policy. Each transition is one
statement for many items.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.batches.tables import ItemState
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.tables import Reason
from schema.specs.batch import ItemRequest

_FENCE: Final = """
    SELECT job_id, subject_id, desired = 'alive' AS wanted
      FROM remote_run
     WHERE id = :run_id
       AND state = 'posting'
       FOR SHARE
"""

# A repeated submission finds its items there already.
_ADD_ITEMS: Final = """
INSERT INTO batch_item (job_id, subject_id, position, custom_id, request)
SELECT $1, $2, given.number - 1, given.custom_id, given.request
  FROM unnest($3::text[], $4::jsonb[]) WITH ORDINALITY AS given (custom_id, request, number)
ON CONFLICT (job_id, position) DO NOTHING
"""

_ADD_ITEMS_FROM_SOURCE: Final = parse_statement(f"""
WITH fence AS MATERIALIZED ({_FENCE}), source AS (
    UPDATE job_payload
       SET result = jsonb_build_object('source', :source::jsonb)
      FROM fence
     WHERE job_payload.job_id = fence.job_id
)
INSERT INTO batch_item (job_id, subject_id, position, custom_id, request)
SELECT fence.job_id, fence.subject_id, given.number - 1, given.custom_id, given.request
  FROM fence,
       unnest(:custom_ids::text[], :requests::jsonb[]) WITH ORDINALITY
           AS given (custom_id, request, number)
ON CONFLICT (job_id, position) DO NOTHING
""")  # noqa: S608  # our own words

_MAY_RESEND: Final = ":resend::boolean AND item.tries + 1 < :max_tries"

_RECOVER_SENT_ITEMS: Final = parse_statement(f"""
WITH fence AS MATERIALIZED ({_FENCE})
UPDATE batch_item AS item
   SET state = CASE WHEN {_MAY_RESEND} THEN 'pending' ELSE 'unknown' END,
       reason = CASE WHEN {_MAY_RESEND} THEN NULL ELSE 'outcome_unknown' END,
       message = 'The worker that sent it was lost.',
       tries = item.tries + 1
  FROM fence
 WHERE item.job_id = fence.job_id
   AND item.state = 'sent'
   AND item.run_id <> :run_id
""")  # noqa: S608  # our own words

# A mark whose commit was never confirmed is found again: its position is behind the last known.
_ADVANCE_ITEMS: Final = parse_statement(f"""
WITH fence AS MATERIALIZED ({_FENCE}), written AS (
    UPDATE batch_item AS item
       SET state = told.state,
           tries = told.tries,
           result = told.result,
           reason = told.reason,
           message = told.message,
           prompt_tokens = told.prompt_tokens,
           completion_tokens = told.completion_tokens
      FROM fence,
           unnest(:positions::int[], :states::text[], :tries::int[], :results::jsonb[],
                  :reasons::text[], :messages::text[], :prompt_tokens::bigint[],
                  :completion_tokens::bigint[])
               AS told (position, state, tries, result, reason, message, prompt_tokens,
                        completion_tokens)
     WHERE item.job_id = fence.job_id
       AND item.position = told.position
       AND item.state = 'sent'
       AND item.run_id = :run_id
), picked AS MATERIALIZED (
    SELECT item.job_id, item.position
      FROM fence
      JOIN batch_item AS item USING (job_id)
     WHERE fence.wanted
       AND item.position = ANY(:resend_positions::int[])
     UNION ALL
    SELECT next.job_id, next.position
      FROM fence
     CROSS JOIN LATERAL (
          SELECT job_id, position
            FROM batch_item AS item
           WHERE item.job_id = fence.job_id
             AND item.position > :after_position
             AND (item.state = 'pending' OR item.state = 'sent' AND item.run_id = :run_id)
           ORDER BY item.job_id, item.position
           LIMIT :max_new_items
      ) AS next
     WHERE fence.wanted
), marked AS (
    UPDATE batch_item AS item
       SET state = 'sent',
           run_id = :run_id
      FROM picked
     WHERE item.job_id = picked.job_id
       AND item.position = picked.position
       AND (item.state = 'pending' OR item.state = 'sent' AND item.run_id = :run_id)
    RETURNING item.position, item.custom_id, item.request, item.tries
)
SELECT fence.job_id, fence.wanted, marked.position, marked.custom_id, marked.request, marked.tries
  FROM fence
  LEFT JOIN marked ON true
 ORDER BY marked.position
""")  # noqa: S608  # our own words

COUNT_COLUMNS_SQL: Final = """SELECT count(*) AS total,
       count(*) FILTER (WHERE state = 'done') AS done,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state = 'unknown') AS unknown,
       coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
       coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens"""
"""The columns of `BatchCounts`."""

_COUNT_ITEMS: Final = f"""
{COUNT_COLUMNS_SQL}
  FROM batch_item
 WHERE job_id = $1
"""

_GET_ITEMS_SOURCE: Final = "SELECT result -> 'source' FROM job_payload WHERE job_id = $1"

_FIND_MOST_COMMON_FAILURE: Final = """
SELECT reason, min(message) AS message, count(*) AS times
  FROM batch_item
 WHERE job_id = $1
   AND state IN ('failed', 'unknown')
 GROUP BY reason, regexp_replace(message, '[0-9]+', '0', 'g')
 ORDER BY times DESC, reason, message
 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class ItemToSend:
    """An item that may be sent now, once."""

    position: int
    custom_id: str
    request: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The outcome of an item that was sent; a pending one has to be sent again."""

    position: int
    state: ItemState
    tries: int
    result: dict[str, Any] | None = None
    reason: Reason | None = None
    message: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    files: tuple[NewJobFile, ...] = ()
    """The parts of its answer that are too long for a result."""


@dataclass(frozen=True, slots=True)
class BatchStep:
    """What a worker may do next."""

    holds_lease: bool
    """Whether the run is still this worker's; otherwise nothing was written."""
    should_continue: bool
    """Whether the job was not cancelled."""
    items: list[ItemToSend]


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Counts of the items of a batch by state, and the tokens that the answered ones used."""

    total: int
    done: int
    failed: int
    unknown: int
    prompt_tokens: int
    completion_tokens: int

    def to_result(self) -> dict[str, Any]:
        """Return them as they are shown, and stored as the result of the batch."""
        return {
            "items": self.total,
            "done": self.done,
            "failed": self.failed,
            "unknown": self.unknown,
            "pending": self.total - self.done - self.failed - self.unknown,
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "total_tokens": self.prompt_tokens + self.completion_tokens,
            },
        }


@dataclass(frozen=True, slots=True)
class CommonFailure:
    """The most common failure of the items without a result."""

    reason: Reason
    message: str | None
    count: int


async def add_items(
    tx: Transaction, job_id: UUID, subject_id: str, items: Sequence[ItemRequest]
) -> None:
    """Save the items of a batch that is being submitted."""
    await tx.execute(_ADD_ITEMS, job_id, subject_id, *_item_columns(items))


async def add_items_from_source(
    tx: Transaction, run_id: UUID, items: Sequence[ItemRequest], *, source: dict[str, Any]
) -> None:
    """Save the items that a worker has read, and their source; without a lease, nothing."""
    custom_ids, requests = _item_columns(items)
    await tx.execute(
        *_ADD_ITEMS_FROM_SOURCE.bind(
            run_id=run_id, custom_ids=custom_ids, requests=requests, source=source
        )
    )


async def recover_sent_items(
    tx: Transaction, run_id: UUID, *, resend: bool, max_tries: int
) -> None:
    """Settle the items that an earlier run left marked as sent.

    Args:
        resend: whether such an item is sent again; otherwise its outcome is unknown.
        max_tries: how often an item may be sent in all.
    """
    await tx.execute(*_RECOVER_SENT_ITEMS.bind(run_id=run_id, resend=resend, max_tries=max_tries))


async def advance_items(
    tx: Transaction,
    run_id: UUID,
    outcomes: Sequence[ItemOutcome] = (),
    *,
    resend_positions: Iterable[int] = (),
    after_position: int = -1,
    max_new_items: int = 0,
) -> BatchStep:
    """Record outcomes, and mark items that may be sent next.

    Args:
        outcomes: of items that this run has marked.
        resend_positions: items to be marked again.
        after_position: the position behind which the next new items are looked for.
        max_new_items: how many of these to mark.
    """
    rows = await tx.fetch(
        *_ADVANCE_ITEMS.bind(
            run_id=run_id,
            positions=[outcome.position for outcome in outcomes],
            states=[outcome.state for outcome in outcomes],
            tries=[outcome.tries for outcome in outcomes],
            results=[outcome.result for outcome in outcomes],
            reasons=[outcome.reason for outcome in outcomes],
            messages=[outcome.message for outcome in outcomes],
            prompt_tokens=[outcome.prompt_tokens for outcome in outcomes],
            completion_tokens=[outcome.completion_tokens for outcome in outcomes],
            resend_positions=list(resend_positions),
            after_position=after_position,
            max_new_items=max_new_items,
        )
    )
    if not rows:
        return BatchStep(holds_lease=False, should_continue=False, items=[])
    await files.save_files(
        tx, rows[0]["job_id"], [file for outcome in outcomes for file in outcome.files]
    )
    items = [
        ItemToSend(row["position"], row["custom_id"], row["request"], row["tries"])
        for row in rows
        if row["position"] is not None
    ]
    return BatchStep(holds_lease=True, should_continue=rows[0]["wanted"], items=items)


async def count_items(tx: Transaction, job_id: UUID) -> BatchCounts:
    """Count the items of a batch."""
    [row] = await tx.fetch(_COUNT_ITEMS, job_id)
    return BatchCounts(**row)


async def get_items_source(tx: Transaction, job_id: UUID) -> dict[str, Any] | None:
    """Return the source that a worker has read the items from; none if it has not yet."""
    source: dict[str, Any] | None = await tx.fetchval(_GET_ITEMS_SOURCE, job_id)
    return source


async def find_most_common_failure(tx: Transaction, job_id: UUID) -> CommonFailure | None:
    """Return the most common failure of the items; messages may differ in their numbers."""
    row = await tx.fetchrow(_FIND_MOST_COMMON_FAILURE, job_id)
    return (
        None if row is None else CommonFailure(Reason(row["reason"]), row["message"], row["times"])
    )


def _item_columns(items: Sequence[ItemRequest]) -> tuple[list[str], list[dict[str, Any]]]:
    return [item.custom_id for item in items], [item.request for item in items]
