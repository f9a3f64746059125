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
from schema.accounts.credentials import DecryptedToken
from schema.accounts.vault import Unsealable
from schema.artifacts import log_store
from schema.common.failpoints import hit_failpoint
from schema.hub.client import HubError, HubRejected
from schema.jobs.run_end import RunResult
from schema.jobs.run_tables import RunOrigin
from schema.jobs.work_queues import DueRun
from workers.artifacts.redaction import Redactor
from workers.context import Worker
from workers.timing import backoff

MAX_LINE_CHARS: Final = 16_384
"""Characters kept of a line."""
_TRUNCATION_MARK: Final = f" … [cut: of a line, {MAX_LINE_CHARS} characters are kept]"
_MAX_CHUNK_LINES: Final = 2000
_MAX_CHUNK_CHARS: Final = 128 * 1024
_TURN_SECONDS: Final = 15.0
"""Seconds for the log of a job that is not over; the next turn goes on from there."""
_MAX_TRIES: Final = 3
"""Attempts at the rest of a log that bring nothing, before its job ends without it."""
_RETRY_WITH_RUN_STATUSES: Final = frozenset({401, 429})
"""Refusals of the token, or for now: the job ends when they are over."""
_WITHHELD_NOTICE: Final = "[withheld: the secrets to look for in it can no longer be opened]"

log = structlog.stdlib.get_logger()


async def load_redactor(worker: Worker, run: DueRun, credential: DecryptedToken) -> Redactor | None:
    """Open what must not be kept of what a run's job says; none if nobody can know any more."""
    try:
        async with worker.database.transaction() as tx:
            secrets = await sealed_secrets.open_job_secrets(tx, worker.vault, run.job_id)
    except Unsealable:
        log.exception("secrets.unsealable", run=str(run.id))
        return None
    return Redactor(secrets, credential.token)


def redact_or_withhold(text: str, redactor: Redactor | None) -> str:
    """Return what may be kept of something the Hub said."""
    return _WITHHELD_NOTICE if redactor is None else redactor.redact(text)


def redact_run_result(run_result: RunResult, redactor: Redactor | None) -> RunResult:
    """Return an ending that repeats no secret."""
    message = run_result.message
    return replace(
        run_result, message=None if message is None else redact_or_withhold(message, redactor)
    )


async def capture_log(
    worker: Worker,
    run: DueRun,
    credential: DecryptedToken,
    redactor: Redactor | None,
    *,
    is_finished: bool,
) -> bool:
    """Keep the lines that are new, of a run that is over all of them.

    False if another worker is at it just now; then whether the run is over is that one's to say.
    A log that cannot be had does not hold up an ending: its last line says so.

    Raises:
        Answered4xx: the Hub does not take the token, or wants to be left alone for a while.
    """
    if run.origin is not RunOrigin.OURS:
        return True
    if redactor is None:
        return not is_finished or await _LogCapture(
            worker, run, credential, Redactor({}), is_finished=is_finished
        ).append_notice(_WITHHELD_NOTICE)
    at_it = _LogCapture(worker, run, credential, redactor, is_finished=is_finished)
    tries = 0
    while tries < _MAX_TRIES:
        before = at_it.stored_lines
        try:
            return await at_it.capture_new_lines()
        except HubError as error:
            if isinstance(error, HubRejected) and error.status in _RETRY_WITH_RUN_STATUSES:
                raise
            log.warning("log.uncaptured", run=str(run.id), error=str(error))
            if not is_finished:
                return True
            final = isinstance(error, HubRejected)
        tries = _MAX_TRIES if final else 1 if at_it.stored_lines > before else tries + 1
        if tries < _MAX_TRIES:
            await anyio.sleep(backoff(tries - 1).total_seconds())
    return await at_it.append_notice("[Holdfast: the Hub did not give the rest of this log]")


class _CapturedByAnotherWorker(Exception):  # a fact, and nobody's error
    """Another worker has kept these lines."""


@dataclass(slots=True)
class _LogCapture:
    """One worker at the log of one run."""

    worker: Worker
    run: DueRun
    credential: DecryptedToken
    redactor: Redactor
    is_finished: bool
    stored_lines: int = 0
    """Lines of the run that are kept."""

    def __post_init__(self) -> None:
        self.stored_lines = self.run.log_lines

    async def capture_new_lines(self) -> bool:
        """Read the log from its start, and keep what is new; false if another worker keeps it."""
        run, until = self.run, time.monotonic() + _TURN_SECONDS
        # A secret may have begun in the lines before.
        known = min(self.stored_lines, self.redactor.max_secret_lines - 1)
        scroll = LineBuffer(self.redactor, known)
        skip = self.stored_lines - known
        assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
        longest = MAX_LINE_CHARS + self.redactor.max_secret_chars
        stream = self.worker.hub.stream_log(
            run.namespace,
            run.remote_id,
            self.credential.token,
            max_line_chars=longest,
            is_finished=self.is_finished,
        )
        try:
            try:
                async with aclosing(stream):
                    async for lines in stream:
                        for line in lines[skip:]:
                            if scroll.add_line(line):
                                await self._store_lines(scroll.take_chunk())
                        skip = max(0, skip - len(lines))
                        if not self.is_finished and time.monotonic() > until:
                            break
            except HubError:
                await self._store_lines(scroll.take_chunk())
                raise
            await self._store_lines(scroll.take_chunk(is_last=self.is_finished))
        except _CapturedByAnotherWorker:
            return False
        return True

    async def append_notice(self, text: str) -> bool:
        """Write a line of ours below those of the run; false if another worker has written more."""
        return await self._append_lines([text], end_line=self.stored_lines)

    async def _store_lines(self, lines: list[str]) -> None:
        if lines:
            if not await self._append_lines(lines, end_line=self.stored_lines + len(lines)):
                raise _CapturedByAnotherWorker
            self.stored_lines += len(lines)

    async def _append_lines(self, lines: list[str], *, end_line: int) -> bool:
        room = self.worker.settings.log_bytes
        async with self.worker.database.transaction() as tx:
            kept = await log_store.append_lines(
                tx,
                self.run.id,
                lines,
                start_line=self.stored_lines,
                end_line=end_line,
                max_log_bytes=room,
            )
            hit_failpoint("log.written")
        hit_failpoint("log.committed")
        return kept


class LineBuffer:
    """Lines on their way to be kept, a chunk at a time, and those before them for their context."""

    def __init__(self, redactor: Redactor, context_lines: int = 0) -> None:
        """Take the first `known` lines for context alone."""
        self._redactor = redactor
        self._context_lines_left = context_lines
        self._context = deque[str](maxlen=redactor.max_secret_lines - 1)
        self._lines: list[str] = []
        self._char_count = 0

    def add_line(self, line: str) -> bool:
        """Add a line; true if there are enough for a chunk."""
        if self._context_lines_left > 0:
            self._context_lines_left -= 1
            self._context.append(line)
            return False
        self._lines.append(line)
        self._char_count += min(len(line), MAX_LINE_CHARS) + 1
        return len(self._lines) >= _MAX_CHUNK_LINES or self._char_count >= _MAX_CHUNK_CHARS

    def take_chunk(self, *, is_last: bool = False) -> list[str]:
        """Take the lines that can be kept: all if none follows, or those that are decided."""
        lines, undecided = (
            self._lines,
            0 if is_last else self._redactor.count_undecided_lines(self._lines),
        )
        ready = len(lines) - undecided
        shown = self._redactor.redact_lines([*self._context, *lines], max_line_chars=MAX_LINE_CHARS)
        del shown[: len(self._context)]
        whole = _mark_truncated(shown[:ready], lines)
        self._context.extend(lines[:ready])
        self._lines = lines[ready:]
        self._char_count = sum(min(len(line), MAX_LINE_CHARS) + 1 for line in self._lines)
        return whole


def _mark_truncated(shown: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [
        text + _TRUNCATION_MARK if len(line) > MAX_LINE_CHARS else text
        for text, line in zip(shown, lines, strict=False)
    ]
