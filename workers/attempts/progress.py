"""The progress of a run, as its executor reports it; only the newest is written, now and then."""

from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.db.storable import to_storable
from schema.jobs.progress import JobProgress, record_progress
from workers.artifacts.redaction import Redactor
from workers.context import AutoResetEvent, Worker

_WRITE_INTERVAL_SECONDS: Final = 2.0
"""Seconds between two writes, and so between two notifications of those who watch the job."""
_MAX_MESSAGE_CHARS: Final = 2000
"""Characters of a message that are searched for secrets and stored; fewer are shown."""

log = structlog.stdlib.get_logger()


class ProgressReporter:
    """Takes the progress of one run, and writes it while `write_until_cancelled` runs."""

    def __init__(self, worker: Worker, run_id: UUID, redactor: Redactor) -> None:
        self._worker = worker
        self._run_id = run_id
        self._redactor = redactor
        self._latest = JobProgress()
        self._changed = AutoResetEvent()

    def __call__(self, progress: JobProgress) -> None:
        """Replace the progress that is written next."""
        self._latest = progress
        self._changed.set()

    async def write_until_cancelled(self) -> None:
        """Write the newest progress each time it has changed, until cancelled."""
        while True:
            await self._changed.wait()
            progress, partial = self._render()
            try:
                async with self._worker.database.transaction() as tx:
                    await record_progress(
                        tx,
                        self._run_id,
                        progress,
                        partial=partial,
                        worker=self._worker.name,
                    )
            except Unavailable:
                log.warning("progress.unwritten")
            await anyio.sleep(_WRITE_INTERVAL_SECONDS)

    def _render(self) -> tuple[JobProgress, str | None]:
        """Write the newest progress, and what was yielded last, without secrets."""
        newest = self._latest
        message = newest.message and to_storable(_redact_start(newest.message, self._redactor))
        partial = newest.render_partial and newest.render_partial(self._redactor)
        return JobProgress(newest.done, newest.total, message), partial and to_storable(partial)


def _redact_start(text: str, redactor: Redactor) -> str:
    """Return the beginning of a text without secrets, also not a part of one that is cut."""
    max_chars = _MAX_MESSAGE_CHARS + redactor.max_secret_chars
    if len(text) <= max_chars:
        return redactor.redact(text)
    return redactor.redact(text[:max_chars])[: -redactor.max_secret_chars]
