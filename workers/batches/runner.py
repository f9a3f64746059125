"""One attempt of a batch: concurrent calls, as many as the throttle allows.

One loop makes all writes. Each commit stores the outcomes since the last commit, and marks the next
items as sent; so one commit serves many items, and no item is sent that is not marked. After a
crash, at most the items under way have an unknown outcome.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar, assert_never, cast

import anyio
import structlog

from schema.artifacts.files import NewJobFile
from schema.batches import store as batch_store
from schema.batches.store import BatchCounts, BatchStep, CommonFailure, ItemOutcome, ItemToSend
from schema.batches.tables import FINAL_ITEM_STATES, ItemState
from schema.common.errors import Unavailable
from schema.common.failpoints import hit_failpoint
from schema.common.text import format_count
from schema.db.database import Database, Transaction
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from schema.specs.batch import BatchSpec
from workers.artifacts.redaction import Redactor
from workers.attempts.db_retry import retry_transaction
from workers.attempts.run import redact_outcome
from workers.batches.throttle import Throttle
from workers.executor import (
    Completed,
    Created,
    ExecutionRequest,
    HandedBack,
    Outcome,
    Rejected,
    RetryLater,
    TokenRejected,
    Unknown,
)

_GATHER_SECONDS: Final = 0.02
"""Seconds in which responses are gathered, so that they are written together."""
_SHUTDOWN_GRACE_SECONDS: Final = 3.0
"""Seconds that calls under way still have after the worker was told to stop."""
_SHUTDOWN_WRITE_SECONDS: Final = 2.0
_MAX_TOKENS: Final = 2**53

T = TypeVar("T")
ExecuteCall = Callable[[ExecutionRequest], Awaitable[Outcome]]

log = structlog.stdlib.get_logger()


class BatchRunner:
    """One attempt of a batch."""

    def __init__(
        self,
        database: Database,
        request: ExecutionRequest,
        spec: BatchSpec,
        execute_call: ExecuteCall,
    ) -> None:
        self._database = database
        self._request = request
        self._spec = spec
        self._execute_call = execute_call
        self._throttle = Throttle(spec.concurrency)
        self._redactor = Redactor(request.secrets, request.token)
        self._calls: dict[asyncio.Future[Outcome], ItemToSend] = {}
        self._unwritten_outcomes: list[ItemOutcome] = []
        self._retry_positions: list[int] = []
        """Positions that are stored as pending again, and are sent next."""
        self._last_marked_position = -1
        """The highest position that this attempt has marked as sent."""
        self._stop_outcome: Outcome | None = None
        """The reason to end early: no more items are marked, the calls under way are awaited."""
        self._state_counts: Counter[ItemState] = Counter()
        self._total = 0

    async def run(self) -> Outcome:
        """Make the calls that have not been made yet, and return the outcome of the batch."""
        try:
            await self._resume()
            await self._run_until_done()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._shut_down()
            raise
        finally:
            for call in self._calls:
                call.cancel()
        return await self._final_outcome()

    async def _resume(self) -> None:
        resend = self._spec.on_unknown == "repeat"

        async def recover(tx: Transaction) -> BatchCounts:
            await batch_store.recover_sent_items(
                tx, self._request.run_id, resend=resend, max_tries=self._spec.max_tries
            )
            return await batch_store.count_items(tx, self._request.job_id)

        counts = await retry_transaction(self._database, recover)
        self._total = counts.total
        self._state_counts.update(
            {
                ItemState.DONE: counts.done,
                ItemState.FAILED: counts.failed,
                ItemState.UNKNOWN: counts.unknown,
            }
        )

    async def _run_until_done(self) -> None:
        while True:
            if self._request.hand_back.is_set() and self._stop_outcome is None:
                self._stop_outcome = HandedBack()
            free_slots = 0
            if self._stop_outcome is None:
                free_slots = self._throttle.free_slots(len(self._calls), now=anyio.current_time())
            step = await retry_transaction(
                self._database, partial(self._write_and_mark, free_slots=free_slots)
            )
            if not step.holds_lease:
                self._stop_outcome = Unknown("Its lease lapsed.")
                return
            if not step.should_continue:
                self._stop_outcome = Unknown("Called off.")
                return
            self._send_marked_items(step)
            self._request.report_progress(self._progress())
            if not self._calls and (
                self._stop_outcome is not None or (free_slots > 0 and not self._retry_positions)
            ):
                return
            await self._wait_for_calls()
            self._collect_outcomes()

    async def _write_and_mark(self, tx: Transaction, *, free_slots: int) -> BatchStep:
        resend_positions = self._retry_positions[:free_slots]
        step = await batch_store.advance_items(
            tx,
            self._request.run_id,
            self._unwritten_outcomes,
            resend_positions=resend_positions,
            after_position=self._last_marked_position,
            max_new_items=free_slots - len(resend_positions),
        )
        hit_failpoint("batch.written")
        return step

    def _send_marked_items(self, step: BatchStep) -> None:
        """Count the outcomes that were committed, and send the items that were marked."""
        hit_failpoint("batch.marked")
        self._state_counts.update(outcome.state for outcome in self._unwritten_outcomes)
        self._retry_positions += [
            outcome.position
            for outcome in self._unwritten_outcomes
            if outcome.state is ItemState.PENDING
        ]
        self._unwritten_outcomes = []
        for item in step.items:
            if item.position in self._retry_positions:
                self._retry_positions.remove(item.position)
            self._last_marked_position = max(self._last_marked_position, item.position)
            call_request = replace(
                self._request,
                spec=self._spec.build_call(item.request),
                report_progress=_ignore_progress,
            )
            self._calls[asyncio.ensure_future(self._execute_call(call_request))] = item

    async def _wait_for_calls(self) -> None:
        pause = (
            self._throttle.pause_seconds(now=anyio.current_time())
            if self._stop_outcome is None
            else 0
        )
        if self._calls:
            timeout = pause or None
            await asyncio.wait(self._calls, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            pause = _GATHER_SECONDS
        await anyio.sleep(pause)

    def _collect_outcomes(self) -> None:
        for call in [call for call in self._calls if call.done()]:
            item = self._calls.pop(call)
            self._unwritten_outcomes.append(
                self._to_item_outcome(item, redact_outcome(call.result(), self._redactor))
            )

    def _to_item_outcome(self, item: ItemToSend, outcome: Outcome) -> ItemOutcome:
        """Return the outcome of an item, and let the throttle know what it means for the others."""
        now = anyio.current_time()
        match outcome:
            case TokenRejected() | Rejected(Reason.INSUFFICIENT_CREDITS):
                self._stop_outcome = outcome
                return ItemOutcome(item.position, ItemState.PENDING, item.tries)
            case Completed(run_result, files):
                self._throttle.record_response()
                return _answered_item(item, run_result, files)
            case Rejected(reason, message):
                self._throttle.record_response()
                return _failed_item(item, reason, message)
            case RetryLater(message, retry_after):
                self._throttle.record_refusal(retry_after, now=now)
                return self._retry_unless_exhausted(
                    _failed_item(item, Reason.HUB_UNAVAILABLE, message)
                )
            case Unknown(message):
                self._throttle.record_refusal(None, now=now)
                failed = _failed_item(item, Reason.OUTCOME_UNKNOWN, message)
                unknown = replace(failed, state=ItemState.UNKNOWN)
                resend = self._spec.on_unknown == "repeat"
                return self._retry_unless_exhausted(unknown) if resend else unknown
            case Created() | HandedBack():
                raise AssertionError("a call has no id at the Hub, and is not interrupted")
            case _:
                assert_never(outcome)

    def _retry_unless_exhausted(self, item_outcome: ItemOutcome) -> ItemOutcome:
        """Queue an item again, unless that was its last try."""
        if item_outcome.tries >= self._spec.max_tries:
            return item_outcome
        return replace(item_outcome, state=ItemState.PENDING, reason=None)

    async def _shut_down(self) -> None:
        """Write the outcomes; give the calls under way a moment, unless the job was cancelled."""
        with (
            suppress(Unavailable),
            anyio.move_on_after(_SHUTDOWN_GRACE_SECONDS + _SHUTDOWN_WRITE_SECONDS),
        ):
            self._collect_outcomes()
            async with self._database.transaction() as tx:
                step = await self._write_and_mark(tx, free_slots=0)
            self._unwritten_outcomes = []
            if step.holds_lease and step.should_continue and self._calls:
                await asyncio.wait(self._calls, timeout=_SHUTDOWN_GRACE_SECONDS)
                self._collect_outcomes()
                async with self._database.transaction() as tx:
                    await self._write_and_mark(tx, free_slots=0)

    async def _final_outcome(self) -> Outcome:
        if self._stop_outcome is not None and not isinstance(self._stop_outcome, Rejected):
            return self._stop_outcome
        job_id = self._request.job_id

        async def read(
            tx: Transaction,
        ) -> tuple[BatchCounts, CommonFailure | None, dict[str, Any] | None]:
            return (
                await batch_store.count_items(tx, job_id),
                await batch_store.find_most_common_failure(tx, job_id),
                await batch_store.get_items_source(tx, job_id),
            )

        counts, failure, source = await retry_transaction(self._database, read)
        if self._stop_outcome is not None:
            run_result = _stopped_result(self._stop_outcome.reason, self._stop_outcome.message)
        elif counts.done or failure is None:
            run_result = RunResult(JobState.SUCCEEDED, "ANSWERED")
        else:
            items = format_count(counts.total, "item")
            message = f"{failure.count} of {items}: {failure.message or failure.reason}"
            run_result = _stopped_result(failure.reason, message)
        result = counts.to_result() | ({} if source is None else {"source": source})
        return Completed(replace(run_result, result=result, progress=self._progress()))

    def _progress(self) -> JobProgress:
        problems = [
            f"{self._state_counts[state]} {state}"
            for state in (ItemState.FAILED, ItemState.UNKNOWN)
            if self._state_counts[state]
        ]
        done = sum(self._state_counts[state] for state in FINAL_ITEM_STATES)
        return JobProgress(done=done, total=self._total, message=", ".join(problems) or None)


def _stopped_result(reason: Reason, message: str) -> RunResult:
    return RunResult(JobState.FAILED, "STOPPED", reason, message)


def _ignore_progress(_: JobProgress) -> None:
    """Drop the progress of one item: the progress of a batch is the number of its items."""


def _failed_item(item: ItemToSend, reason: Reason, message: str | None) -> ItemOutcome:
    return ItemOutcome(
        item.position, ItemState.FAILED, item.tries + 1, reason=reason, message=message
    )


def _answered_item(
    item: ItemToSend, run_result: RunResult, files: Iterable[NewJobFile]
) -> ItemOutcome:
    """Return the outcome of an item whose call was carried out; a failed one may have a result."""
    is_done = run_result.state is JobState.SUCCEEDED
    result = run_result.result or ({} if is_done else None)
    # The files of all items are files of one job, and two items may have a file of the same name.
    renamed = tuple(replace(file, name=f"{item.position}-{file.name}") for file in files)
    if renamed:
        result = (result or {}) | {"files": [file.name for file in renamed]}
    usage = (result or {}).get("usage")
    tokens = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    return ItemOutcome(
        item.position,
        ItemState.DONE if is_done else ItemState.FAILED,
        item.tries + 1,
        result=result,
        reason=None if is_done else run_result.reason or Reason.INTERNAL,
        message=None if is_done else run_result.message,
        files=renamed,
        prompt_tokens=_parse_token_count(tokens.get("prompt_tokens")),
        completion_tokens=_parse_token_count(tokens.get("completion_tokens")),
    )


def _parse_token_count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _MAX_TOKENS else None
