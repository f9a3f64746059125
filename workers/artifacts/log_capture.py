"""The keeping of a job's log: read from the Hub's stream, redacted, and stored a chunk at a time.

The Hub replays a log from its start, so a capture skips what is kept, and takes the rest. How far
it has got is written with each chunk, compared and set: whatever breaks off in between, a worker,
the stream or a commit, the next capture goes on behind the last line that was kept.
"""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import anyio
import structlog

from schema.accounts import secrets as sealed_secrets
from schema.accounts.credentials import Lent
from schema.accounts.vault import Unsealable
from schema.artifacts import log_store
from schema.common.failpoints import reach
from schema.jobs.run_end import Ending
from schema.jobs.run_tables import Origin
from schema.jobs.work_queues import AgedRun
from schema.specs.hub_job import TOKEN_VARIABLE
from workers.artifacts.redaction import Redactor
from workers.context import Worker
from workers.hub.client import Answered4xx, HubError
from workers.timing import backoff

LONGEST: Final = 16_384
"""Characters kept of a line."""
_CUT: Final = f" … [cut: of a line, {LONGEST} characters are kept]"
_CHUNK_LINES: Final = 2000
_CHUNK_SIZE: Final = 128 * 1024
_TURN: Final = 15.0
"""Seconds for the log of a job that is not over; the next turn goes on from there."""
_TRIES: Final = 3
"""Attempts at the rest of a log that bring nothing, before its job ends without it."""
_NO_MATTER_OF_THE_LOG: Final = frozenset({401, 429})
"""Refusals of the token, or for now: the job ends when they are over."""
_WITHHELD: Final = "[withheld: the secrets to look for in it can no longer be opened]"

log = structlog.stdlib.get_logger()


async def redactor_of(worker: Worker, run: AgedRun, lent: Lent) -> Redactor | None:
    """Open what must not be kept of what a run's job says; none if nobody can know any more."""
    try:
        async with worker.database.transaction() as tx:
            secrets = await sealed_secrets.open_job_secrets(tx, worker.vault, run.job_id)
    except Unsealable:
        log.exception("secrets.unsealable", run=str(run.id))
        return None
    return Redactor({TOKEN_VARIABLE: lent.token, **secrets})


def redacted(said: str, redactor: Redactor | None) -> str:
    """Return what may be kept of something the Hub said."""
    return _WITHHELD if redactor is None else redactor.text(said)


def unsaid(ending: Ending, redactor: Redactor | None) -> Ending:
    """Return an ending that repeats no secret."""
    message = ending.message
    return replace(ending, message=None if message is None else redacted(message, redactor))


async def capture(
    worker: Worker, run: AgedRun, lent: Lent, redactor: Redactor | None, *, over: bool
) -> bool:
    """Keep the lines that are new, of a run that is over all of them.

    False if another worker is at it just now; then whether the run is over is that one's to say.
    A log that cannot be had does not hold up an ending: its last line says so.

    Raises:
        Answered4xx: the Hub does not take the token, or wants to be left alone for a while.
    """
    if run.origin is not Origin.OURS:
        return True
    if redactor is None:
        return not over or await _Capture(worker, run, lent, Redactor({}), over=over).note(
            _WITHHELD
        )
    at_it = _Capture(worker, run, lent, redactor, over=over)
    tries = 0
    while tries < _TRIES:
        before = at_it.taken
        try:
            return await at_it.read()
        except HubError as error:
            if isinstance(error, Answered4xx) and error.status in _NO_MATTER_OF_THE_LOG:
                raise
            log.warning("log.uncaptured", run=str(run.id), error=str(error))
            if not over:
                return True
            final = isinstance(error, Answered4xx)
        tries = _TRIES if final else 1 if at_it.taken > before else tries + 1
        if tries < _TRIES:
            await anyio.sleep(backoff(tries - 1).total_seconds())
    return await at_it.note("[Holdfast: the Hub did not give the rest of this log]")


class _Taken(Exception):  # a fact, and nobody's error
    """Another worker has kept these lines."""


@dataclass(slots=True)
class _Capture:
    """One worker at the log of one run."""

    worker: Worker
    run: AgedRun
    lent: Lent
    redactor: Redactor
    over: bool
    taken: int = 0
    """Lines of the run that are kept."""

    def __post_init__(self) -> None:
        self.taken = self.run.log_lines

    async def read(self) -> bool:
        """Read the log from its start, and keep what is new; false if another worker keeps it."""
        run, until = self.run, time.monotonic() + _TURN
        # A secret may have begun in the lines before.
        known = min(self.taken, self.redactor.span - 1)
        scroll = Scroll(self.redactor, known)
        skip = self.taken - known
        assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
        longest = LONGEST + self.redactor.reach
        stream = self.worker.hub.log(
            run.namespace, run.remote_id, self.lent.token, longest=longest, over=self.over
        )
        try:
            try:
                async with aclosing(stream):
                    async for lines in stream:
                        for line in lines[skip:]:
                            if scroll.add(line):
                                await self._keep(scroll.take())
                        skip = max(0, skip - len(lines))
                        if not self.over and time.monotonic() > until:
                            break
            except HubError:
                await self._keep(scroll.take())
                raise
            await self._keep(scroll.take(last=self.over))
        except _Taken:
            return False
        return True

    async def note(self, words: str) -> bool:
        """Write a line of ours below those of the run; false if another worker has written more."""
        return await self._append([words], upto=self.taken)

    async def _keep(self, lines: list[str]) -> None:
        if lines:
            if not await self._append(lines, upto=self.taken + len(lines)):
                raise _Taken
            self.taken += len(lines)

    async def _append(self, lines: list[str], *, upto: int) -> bool:
        room = self.worker.settings.log_bytes
        async with self.worker.database.transaction() as tx:
            kept = await log_store.append(
                tx, self.run.id, lines, already=self.taken, upto=upto, room=room
            )
            reach("log.written")
        reach("log.committed")
        return kept


class Scroll:
    """Lines on their way to be kept, a chunk at a time, and those before them for their context."""

    def __init__(self, redactor: Redactor, known: int = 0) -> None:
        """Take the first `known` lines for context alone."""
        self._redactor = redactor
        self._known = known
        self._before = deque[str](maxlen=redactor.span - 1)
        self._lines: list[str] = []
        self._size = 0

    def add(self, line: str) -> bool:
        """Add a line; true if there are enough for a chunk."""
        if self._known > 0:
            self._known -= 1
            self._before.append(line)
            return False
        self._lines.append(line)
        self._size += min(len(line), LONGEST) + 1
        return len(self._lines) >= _CHUNK_LINES or self._size >= _CHUNK_SIZE

    def take(self, *, last: bool = False) -> list[str]:
        """Take the lines that can be kept: all if none follows, or those that are decided."""
        lines, undecided = self._lines, 0 if last else self._redactor.undecided(self._lines)
        ready = len(lines) - undecided
        shown = self._redactor.lines([*self._before, *lines], longest=LONGEST)
        del shown[: len(self._before)]
        whole = _with_cuts(shown[:ready], lines)
        self._before.extend(lines[:ready])
        self._lines = lines[ready:]
        self._size = sum(min(len(line), LONGEST) + 1 for line in self._lines)
        return whole


def _with_cuts(shown: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [
        text + _CUT if len(line) > LONGEST else text
        for text, line in zip(shown, lines, strict=False)
    ]
