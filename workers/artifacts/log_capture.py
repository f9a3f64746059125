"""Capture of a job's log: read from the Hub's stream, redacted, and stored chunk by chunk.

The Hub replays a log from its start, so a capture skips the lines that are stored, and takes the
rest. The number of stored lines is compared and set with each chunk. Whatever fails in between, a
worker, the stream or a commit, the next capture continues after the last stored line.
"""

import time
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import anyio
import structlog

from schema.accounts import secrets as sealed_secrets
from schema.accounts.credentials import DecryptedToken
from schema.accounts.vault import Unsealable
from schema.artifacts import log_store
from schema.common.failpoints import hit_failpoint
from schema.common.text import truncate
from schema.hub.client import HubError, HubRejected
from schema.jobs.run_end import RunResult
from schema.jobs.run_tables import RunOrigin
from schema.jobs.work_queues import DueRun
from workers.artifacts.redaction import Redactor
from workers.artifacts.terminal import last_state
from workers.context import Worker
from workers.hub.log_stream import GAP
from workers.timing import backoff

MAX_LINE_CHARS: Final = 16_384
"""Characters that are stored of a line: of its beginning and of its end."""
_TRUNCATION_MARK: Final = f" … [cut: of a line, {MAX_LINE_CHARS} characters are kept] … "
_MAX_CHUNK_LINES: Final = 2000
_MAX_CHUNK_CHARS: Final = 128 * 1024
_TURN_SECONDS: Final = 15.0
"""Seconds for the log of a job that still runs; the next poll continues from there."""
_CATCH_UP_SECONDS: Final = 1.0
"""Seconds after which lines that come one by one are stored: somebody may wait for them."""
_MAX_LIVE_LINES: Final = 100
"""Lines that come at once while a program prints; a replay of what it has printed brings more."""
_MAX_TRIES: Final = 3
"""Tries in a row that bring no line, before the job ends without the rest of its log."""
_RETRY_WITH_RUN_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
"""The token is rejected, or the Hub asks us to wait: the job ends only after that is over."""
_WITHHELD_NOTICE: Final = "[withheld: the secrets to look for in it can no longer be decrypted]"

log = structlog.stdlib.get_logger()


async def load_redactor(worker: Worker, run: DueRun, credential: DecryptedToken) -> Redactor | None:
    """Load the redactor of a run's job; none if its secrets can no longer be decrypted."""
    try:
        async with worker.database.transaction() as tx:
            secrets = await sealed_secrets.open_job_secrets(tx, worker.vault, run.job_id)
    except Unsealable as error:  # at each poll, so without a traceback
        log.warning("secrets.unsealable", run=str(run.id), error=str(error))
        return None
    return Redactor(secrets, credential.token)


def redact_or_withhold(text: str, redactor: Redactor | None) -> str:
    """Redact a text of the Hub; withhold all of it if the secrets are not known."""
    return _WITHHELD_NOTICE if redactor is None else redactor.redact(text)


def redact_run_result(run_result: RunResult, redactor: Redactor | None) -> RunResult:
    """Redact the message of a result."""
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
    """Store the new lines of a log; of a finished run, all lines to the end of the log.

    False if another worker stores the same lines; then that worker ends the run. If the log cannot
    be read, the run ends all the same, and the last line of the stored log says so.

    Raises:
        HubRejected: the Hub does not accept the token, or asks us to wait.
    """
    if run.origin is not RunOrigin.OURS:
        return True
    if redactor is None:
        return not is_finished or await _LogCapture(
            worker, run, credential, Redactor({}), is_finished=is_finished
        ).append_notice(_WITHHELD_NOTICE)
    capture = _LogCapture(worker, run, credential, redactor, is_finished=is_finished)
    tries = 0
    while tries < _MAX_TRIES:
        lines_before = capture.stored_lines
        try:
            return await capture.capture_new_lines()
        except HubError as error:
            if isinstance(error, HubRejected) and error.status in _RETRY_WITH_RUN_STATUSES:
                raise
            log.warning("log.uncaptured", run=str(run.id), error=str(error))
            if not is_finished:
                return True
            is_final = isinstance(error, HubRejected)
        if is_final:
            break
        tries = 1 if capture.stored_lines > lines_before else tries + 1
        if tries < _MAX_TRIES:
            await anyio.sleep(backoff(tries - 1).total_seconds())
    return await capture.append_notice("[Holdfast: the Hub did not give the rest of this log]")


class _CapturedByAnotherWorker(Exception):  # not an error, so no name that ends with Error
    """Another worker has stored these lines."""


@dataclass(slots=True)
class _LogCapture:
    """The capture of one run's log by one worker."""

    worker: Worker
    run: DueRun
    credential: DecryptedToken
    redactor: Redactor
    is_finished: bool
    stored_lines: int = 0
    """Lines of the run's log that are stored."""

    def __post_init__(self) -> None:
        self.stored_lines = self.run.log_lines

    async def capture_new_lines(self) -> bool:
        """Read the log from its start, and store what is new; false if another worker stores it."""
        run, start = self.run, time.monotonic()
        # A secret may have started in the lines before.
        context_lines = min(self.stored_lines, self.redactor.max_secret_lines - 1)
        buffer = LineBuffer(self.redactor, context_lines)
        skip = self.stored_lines - context_lines
        assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
        max_line_chars = MAX_LINE_CHARS + 2 * self.redactor.max_secret_chars
        stream = self.worker.hub.stream_log(
            run.namespace,
            run.remote_id,
            self.credential.token,
            max_line_chars=max_line_chars,
            is_finished=self.is_finished,
        )
        try:
            try:
                async with aclosing(stream):
                    async for lines in stream:
                        for line in lines[skip:]:
                            if buffer.add_line(line):
                                await self._store_lines(buffer.take_chunk())
                        skip = max(0, skip - len(lines))
                        is_live = skip == 0 and len(lines) <= _MAX_LIVE_LINES
                        turn_seconds = _CATCH_UP_SECONDS if is_live else _TURN_SECONDS
                        if not self.is_finished and time.monotonic() - start > turn_seconds:
                            break
            except HubError:
                await self._store_lines(buffer.take_chunk())
                raise
            await self._store_lines(buffer.take_chunk(is_last=self.is_finished))
        except _CapturedByAnotherWorker:
            return False
        return True

    async def append_notice(self, text: str) -> bool:
        """Append a line of ours to the run's log; false if another worker has stored more lines."""
        return await self._append_lines([text], end_line=self.stored_lines)

    async def _store_lines(self, lines: list[str]) -> None:
        if lines:
            if not await self._append_lines(lines, end_line=self.stored_lines + len(lines)):
                raise _CapturedByAnotherWorker
            self.stored_lines += len(lines)

    async def _append_lines(self, lines: list[str], *, end_line: int) -> bool:
        async with self.worker.database.transaction() as tx:
            is_stored = await log_store.append_lines(
                tx,
                self.run.id,
                lines,
                start_line=self.stored_lines,
                end_line=end_line,
                max_log_bytes=self.worker.settings.log_bytes,
            )
            hit_failpoint("log.written")
        hit_failpoint("log.committed")
        return is_stored


class LineBuffer:
    """Lines that wait to be stored in chunks, and the lines before them as context for secrets."""

    def __init__(self, redactor: Redactor, context_lines: int = 0) -> None:
        """Prepare a buffer that takes the first `context_lines` lines as context only."""
        self._redactor = redactor
        self._context_lines_left = context_lines
        self._context = deque[str](maxlen=redactor.max_secret_lines - 1)
        self._lines: list[str] = []
        self._char_count = 0

    def add_line(self, line: str) -> bool:
        """Add a line; true if there are enough lines for a chunk."""
        line = line.rstrip("\r")  # the end of a line from Windows rewrites nothing
        if self._context_lines_left > 0:
            self._context_lines_left -= 1
            self._context.append(line)
            return False
        self._lines.append(line)
        self._char_count += min(len(line), MAX_LINE_CHARS) + 1
        return len(self._lines) >= _MAX_CHUNK_LINES or self._char_count >= _MAX_CHUNK_CHARS

    def take_chunk(self, *, is_last: bool = False) -> list[str]:
        """Take the lines that can be stored: all of them, or those in which no secret is open."""
        lines = self._lines
        undecided = 0 if is_last else self._redactor.count_undecided_lines(lines)
        ready = len(lines) - undecided
        redacted = self._redactor.redact_lines([*self._context, *lines])
        del redacted[: len(self._context)]
        chunk = [_fit_line(self._show_last_state(line)) for line in redacted[:ready]]
        self._context.extend(lines[:ready])
        self._lines = lines[ready:]
        self._char_count = sum(min(len(line), MAX_LINE_CHARS) + 1 for line in self._lines)
        return chunk

    def _show_last_state(self, line: str) -> str:
        """Return the last state of a redacted line; what was written over may make up a secret."""
        beginning, gap, end = line.partition(GAP)
        state = last_state(end) if gap else last_state(beginning)
        if gap and (end == state or beginning == last_state(beginning)):
            # Nothing shows that what was not read wrote over the beginning.
            state = f"{last_state(beginning)}{GAP}{state}"
        return line if state == line else self._redactor.redact(state)


def _fit_line(line: str) -> str:
    """Return the beginning and the end of a line that is too long."""
    beginning, gap, end = line.partition(GAP)
    if gap:
        half = MAX_LINE_CHARS // 2
        return f"{beginning[:half]}{_TRUNCATION_MARK}{end[-half:]}"
    return truncate(
        line, MAX_LINE_CHARS + len(_TRUNCATION_MARK), keeps_end=True, mark=_TRUNCATION_MARK
    )
