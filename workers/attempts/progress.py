"""What an executor says of how far it is, written down now and then: the newest, not each."""

from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.db.storable import storable
from schema.jobs import progress
from schema.jobs.progress import Progress
from workers.context import Bell, Worker

_EVERY: Final = 2.0
"""Seconds between two writes; whoever waits for changes is told as often."""

log = structlog.stdlib.get_logger()


class Reporter:
    """Takes what is said about one run, and writes it down while `write` goes on."""

    def __init__(self, worker: Worker, run_id: UUID) -> None:
        self._worker = worker
        self._run_id = run_id
        self._newest = Progress()
        self._bell = Bell()

    def __call__(self, newest: Progress) -> None:
        """Take note of how far it is."""
        self._newest = newest
        self._bell.ring()

    async def write(self) -> None:
        """Write down what is news, until cancelled."""
        while True:
            await self._bell.rung()
            try:
                async with self._worker.database.transaction() as tx:
                    await progress.note(
                        tx, self._run_id, _storable(self._newest), worker=self._worker.name
                    )
            except Unavailable:
                log.warning("progress.unwritten")
            await anyio.sleep(_EVERY)


def _storable(said: Progress) -> Progress:
    return Progress(said.done, said.total, said.message and storable(said.message))
