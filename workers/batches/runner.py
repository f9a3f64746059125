"""One worker's run of a batch: as many calls at a time as the pace allows, each marked before.

One loop makes all the writes: what was answered since the last one is written in the commit that
marks the next items, so that a commit serves as many items as came together, and nothing is ever
sent unmarked. A crash therefore leaves at most as many items in doubt as were under way.
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

from schema.artifacts.files import NewFile
from schema.batches import store as batch_store
from schema.batches.store import Commonest, Marked, Step, Tally, Told
from schema.batches.tables import SETTLED, ItemState
from schema.common.errors import Unavailable
from schema.common.failpoints import reach
from schema.db.database import Database, Transaction
from schema.jobs.progress import Progress
from schema.jobs.run_end import Ending
from schema.jobs.tables import JobState, Reason
from schema.specs.batch import BatchSpec
from schema.specs.hub_job import TOKEN_VARIABLE
from workers.artifacts.redaction import Redactor
from workers.attempts.db_retry import persist
from workers.attempts.run import without_secrets
from workers.batches.throttle import Pace
from workers.executor import Answered, Bound, Later, Order, Outcome, Refused, TokenRefused, Unclear

_GATHER: Final = 0.02
"""Seconds in which answers that come together are gathered, to be written together."""
_LAST_ANSWERS: Final = 3.0
"""Seconds in which calls under way may still be answered once the worker is told to stop."""
_LAST_WRITE: Final = 2.0
_MOST_TOKENS: Final = 2**53

T = TypeVar("T")
Call = Callable[[Order], Awaitable[Outcome]]

log = structlog.stdlib.get_logger()


class BatchRun:
    """One attempt of a batch."""

    def __init__(self, database: Database, order: Order, spec: BatchSpec, call: Call) -> None:
        self._database = database
        self._order = order
        self._spec = spec
        self._call = call
        self._pace = Pace(spec.concurrency)
        self._redactor = Redactor({**order.secrets, TOKEN_VARIABLE: order.token})
        self._calls: dict[asyncio.Future[Outcome], Marked] = {}
        self._told: list[Told] = []
        self._again: list[int] = []
        """Written down as pending again, and the next to be sent."""
        self._after = -1
        """The last position that was ever marked in here."""
        self._over: Outcome | None = None
        """What ends the run early: nothing more is marked, and what is under way is waited for."""
        self._states: Counter[ItemState] = Counter()
        self._total = 0

    async def carry_out(self) -> Outcome:
        """Make the calls that have not been made, and say how it went."""
        try:
            await self._resume()
            await self._work()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._wind_down()
            raise
        finally:
            for call in self._calls:
                call.cancel()
        return await self._outcome()

    async def _resume(self) -> None:
        repeat = self._spec.on_unknown == "repeat"

        async def write(tx: Transaction) -> Tally:
            await batch_store.resume(
                tx, self._order.run_id, repeat=repeat, most=self._spec.max_tries
            )
            return await batch_store.tally(tx, self._order.job_id)

        tally = await persist(self._database, write)
        self._total = tally.total
        self._states.update(
            {
                ItemState.DONE: tally.done,
                ItemState.FAILED: tally.failed,
                ItemState.UNKNOWN: tally.unknown,
            }
        )

    async def _work(self) -> None:
        while True:
            room = 0
            if self._over is None:
                room = self._pace.room(len(self._calls), now=anyio.current_time())
            step = await persist(self._database, partial(self._advance, room=room))
            if not step.held:
                self._over = Unclear("Its lease lapsed.")
                return
            if not step.wanted:
                self._over = Unclear("Called off.")
                return
            self._written(step)
            self._order.report(self._progress())
            if not self._calls and (self._over is not None or (room > 0 and not self._again)):
                return
            await self._wait()
            self._collect()

    async def _advance(self, tx: Transaction, *, room: int) -> Step:
        again = self._again[:room]
        step = await batch_store.advance(
            tx,
            self._order.run_id,
            self._told,
            again=again,
            after=self._after,
            room=room - len(again),
        )
        reach("batch.written")
        return step

    def _written(self, step: Step) -> None:
        """Take note of what was committed, and send what was marked."""
        reach("batch.marked")
        self._states.update(told.state for told in self._told)
        self._again += [told.position for told in self._told if told.state is ItemState.PENDING]
        self._told = []
        for item in step.items:
            if item.position in self._again:
                self._again.remove(item.position)
            self._after = max(self._after, item.position)
            order = replace(self._order, spec=self._spec.call(item.request), report=_unheard)
            self._calls[asyncio.ensure_future(self._call(order))] = item

    async def _wait(self) -> None:
        pause = self._pace.pause(now=anyio.current_time()) if self._over is None else 0
        if self._calls:
            until = pause or None
            await asyncio.wait(self._calls, timeout=until, return_when=asyncio.FIRST_COMPLETED)
            pause = _GATHER
        await anyio.sleep(pause)

    def _collect(self) -> None:
        for call in [each for each in self._calls if each.done()]:
            item = self._calls.pop(call)
            self._told.append(self._judge(item, without_secrets(call.result(), self._redactor)))

    def _judge(self, item: Marked, outcome: Outcome) -> Told:
        """Say what became of an item, and what that means for the others."""
        now = anyio.current_time()
        match outcome:
            case Answered(ending, files) if ending.state is JobState.SUCCEEDED:
                self._pace.answered()
                return _done(item, ending.result or {}, files)
            case TokenRefused() | Refused(Reason.INSUFFICIENT_CREDITS):
                self._over = outcome
                return Told(item.position, ItemState.PENDING, item.tries)
            case Answered(Ending(reason=reason, message=message)) | Refused(reason, message):
                self._pace.answered()
                return _failed(item, reason or Reason.INTERNAL, message)
            case Later(message, asked):
                self._pace.refused(asked, now=now)
                return self._unless_tried(_failed(item, Reason.HUB_UNAVAILABLE, message))
            case Unclear(why):
                self._pace.refused(None, now=now)
                failed = _failed(item, Reason.OUTCOME_UNKNOWN, why)
                unknown = replace(failed, state=ItemState.UNKNOWN)
                repeat = self._spec.on_unknown == "repeat"
                return self._unless_tried(unknown) if repeat else unknown
            case Bound():
                raise AssertionError("a call leaves no id behind")
            case _:
                assert_never(outcome)

    def _unless_tried(self, told: Told) -> Told:
        """Have an item sent again, unless that was its last try."""
        if told.tries >= self._spec.max_tries:
            return told
        return replace(told, state=ItemState.PENDING, reason=None)

    async def _wind_down(self) -> None:
        """Write what was answered; give what is under way a moment, unless it was called off."""
        with suppress(Unavailable), anyio.move_on_after(_LAST_ANSWERS + _LAST_WRITE):
            self._collect()
            async with self._database.transaction() as tx:
                step = await self._advance(tx, room=0)
            self._told = []
            if step.held and step.wanted and self._calls:
                await asyncio.wait(self._calls, timeout=_LAST_ANSWERS)
                self._collect()
                async with self._database.transaction() as tx:
                    await self._advance(tx, room=0)

    async def _outcome(self) -> Outcome:
        if self._over is not None and not isinstance(self._over, Refused):
            return self._over
        job_id = self._order.job_id

        async def read(tx: Transaction) -> tuple[Tally, Commonest | None, dict[str, Any] | None]:
            counted = await batch_store.tally(tx, job_id)
            return (
                counted,
                await batch_store.commonest(tx, job_id),
                await batch_store.source(tx, job_id),
            )

        tally, wrong, source = await persist(self._database, read)
        if self._over is not None:
            ending = _stopped(self._over.reason, self._over.message)
        elif tally.done or wrong is None:
            ending = Ending(JobState.SUCCEEDED, "ANSWERED")
        else:
            said = f"{wrong.times} of {tally.total} items: {wrong.message or wrong.reason}"
            ending = _stopped(wrong.reason, said)
        result = tally.shown() | ({} if source is None else {"source": source})
        return Answered(replace(ending, result=result, progress=self._progress()))

    def _progress(self) -> Progress:
        trouble = [
            f"{self._states[state]} {state}"
            for state in (ItemState.FAILED, ItemState.UNKNOWN)
            if self._states[state]
        ]
        settled = sum(self._states[state] for state in SETTLED)
        return Progress(done=settled, total=self._total, message=", ".join(trouble) or None)


def _stopped(reason: Reason, message: str) -> Ending:
    return Ending(JobState.FAILED, "STOPPED", reason, message)


def _unheard(_: Progress) -> None:
    """Leave out how far one item is; how many are done is said for all."""


def _failed(item: Marked, reason: Reason, message: str | None) -> Told:
    return Told(item.position, ItemState.FAILED, item.tries + 1, reason=reason, message=message)


def _done(item: Marked, result: dict[str, Any], files: Iterable[NewFile]) -> Told:
    # Of one batch, and each item may have one of that name.
    named = tuple(replace(file, name=f"{item.position}-{file.name}") for file in files)
    if named:
        result = result | {"files": [file.name for file in named]}
    usage = result.get("usage")
    counted = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    return Told(
        item.position,
        ItemState.DONE,
        item.tries + 1,
        result=result,
        files=named,
        prompt_tokens=_tokens(counted.get("prompt_tokens")),
        completion_tokens=_tokens(counted.get("completion_tokens")),
    )


def _tokens(counted: object) -> int | None:
    return counted if isinstance(counted, int) and 0 <= counted <= _MOST_TOKENS else None
