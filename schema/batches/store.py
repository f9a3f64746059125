"""The moves of the items of a batch: kept, marked as sent, settled, and taken up again.

Every move of a worker's is fenced by its run, which has to be open and its lease alive: whoever
lost it writes nothing, neither a mark nor an answer. An item is sent only after its mark was
committed, and a job has one open run at most, so no item is sent by two at a time. What a run left
marked, the next one takes up by the caller's policy. All of it is one statement for many items.
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
       AND due_at > now()
       FOR SHARE
"""

# The same submission again finds its items there.
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

# A mark whose commit was never confirmed is found again: it lies behind the last one known.
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
SELECT reason, message, count(*) AS times
  FROM batch_item
 WHERE job_id = $1
   AND state IN ('failed', 'unknown')
 GROUP BY reason, message
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
    """What became of an item that was sent; pending, it is to be sent again."""

    position: int
    state: ItemState
    tries: int
    result: dict[str, Any] | None = None
    reason: Reason | None = None
    message: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    files: tuple[NewJobFile, ...] = ()
    """What of its answer is too long for a result."""


@dataclass(frozen=True, slots=True)
class BatchStep:
    """What a worker may do next."""

    holds_lease: bool
    """Whether the run is still this worker's; if not, nothing was written."""
    should_continue: bool
    """Whether it has not been called off."""
    items: list[ItemToSend]


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """How the items of a batch stand, and what the answered ones used."""

    total: int
    done: int
    failed: int
    unknown: int
    prompt_tokens: int
    completion_tokens: int

    def to_result(self) -> dict[str, Any]:
        """Write it as it is shown, and kept as the result of the batch."""
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
    """What most of the items without a result have in common."""

    reason: Reason
    message: str | None
    count: int


async def add_items(
    tx: Transaction, job_id: UUID, subject_id: str, items: Sequence[ItemRequest]
) -> None:
    """Keep the items of a batch that is being submitted."""
    await tx.execute(_ADD_ITEMS, job_id, subject_id, *_item_columns(items))


async def add_items_from_source(
    tx: Transaction, run_id: UUID, items: Sequence[ItemRequest], *, source: dict[str, Any]
) -> None:
    """Keep the items a worker has read, and what from; without its lease, nothing."""
    custom_ids, requests = _item_columns(items)
    await tx.execute(
        *_ADD_ITEMS_FROM_SOURCE.bind(
            run_id=run_id, custom_ids=custom_ids, requests=requests, source=source
        )
    )


async def recover_sent_items(
    tx: Transaction, run_id: UUID, *, resend: bool, max_tries: int
) -> None:
    """Settle what an earlier run left marked; with `repeat` it is sent again, `most` times."""
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
    """Write down what was told, and mark what may be sent.

    That is `again`, and of the items behind position `after` the next ones, as many as there is
    `room` for.
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
        tx, rows[0]["job_id"], [file for each in outcomes for file in each.files]
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
    """Return what a worker has read the items from, if it has."""
    found: dict[str, Any] | None = await tx.fetchval(_GET_ITEMS_SOURCE, job_id)
    return found


async def find_most_common_failure(tx: Transaction, job_id: UUID) -> CommonFailure | None:
    """Return what most of the items without a result have in common."""
    row = await tx.fetchrow(_FIND_MOST_COMMON_FAILURE, job_id)
    return (
        None if row is None else CommonFailure(Reason(row["reason"]), row["message"], row["times"])
    )


def _item_columns(items: Sequence[ItemRequest]) -> tuple[list[str], list[dict[str, Any]]]:
    return [item.custom_id for item in items], [item.request for item in items]
