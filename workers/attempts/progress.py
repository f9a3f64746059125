"""What an executor says of how far it is, written down now and then: the newest, not each."""

from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.db.storable import to_storable
from schema.jobs import progress
from schema.jobs.progress import JobProgress
from workers.context import AutoResetEvent, Worker

_WRITE_INTERVAL_SECONDS: Final = 2.0
"""Seconds between two writes; whoever waits for changes is told as often."""

log = structlog.stdlib.get_logger()


class ProgressReporter:
    """Takes what is said about one run, and writes it down while `write` goes on."""

    def __init__(self, worker: Worker, run_id: UUID) -> None:
        self._worker = worker
        self._run_id = run_id
        self._latest = JobProgress()
        self._changed = AutoResetEvent()

    def __call__(self, latest: JobProgress) -> None:
        """Take note of how far it is."""
        self._latest = latest
        self._changed.set()

    async def write_until_cancelled(self) -> None:
        """Write down what is news, until cancelled."""
        while True:
            await self._changed.wait()
            try:
                async with self._worker.database.transaction() as tx:
                    await progress.record_progress(
                        tx,
                        self._run_id,
                        _to_storable_progress(self._latest),
                        worker=self._worker.name,
                    )
            except Unavailable:
                log.warning("progress.unwritten")
            await anyio.sleep(_WRITE_INTERVAL_SECONDS)


def _to_storable_progress(update: JobProgress) -> JobProgress:
    return JobProgress(update.done, update.total, update.message and to_storable(update.message))
