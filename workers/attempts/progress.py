"""The progress of a run, as its executor reports it; only the newest is written, now and then."""

from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.db.storable import to_storable
from schema.jobs.progress import JobProgress, record_progress
from workers.context import AutoResetEvent, Worker

_WRITE_INTERVAL_SECONDS: Final = 2.0
"""Seconds between two writes, and so between two notifications of those who watch the job."""

log = structlog.stdlib.get_logger()


class ProgressReporter:
    """Takes the progress of one run, and writes it while `write_until_cancelled` runs."""

    def __init__(self, worker: Worker, run_id: UUID) -> None:
        self._worker = worker
        self._run_id = run_id
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
            try:
                async with self._worker.database.transaction() as tx:
                    await record_progress(
                        tx,
                        self._run_id,
                        _to_storable_progress(self._latest),
                        worker=self._worker.name,
                    )
            except Unavailable:
                log.warning("progress.unwritten")
            await anyio.sleep(_WRITE_INTERVAL_SECONDS)


def _to_storable_progress(progress: JobProgress) -> JobProgress:
    message = progress.message and to_storable(progress.message)
    partial = progress.partial and to_storable(progress.partial)
    return JobProgress(progress.done, progress.total, message, partial)
