"""What of a job is read where there is room for one text, and nobody to ask for the next page?"""

from dataclasses import dataclass

from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from service import jobs, logs
from service.auth.caller import Caller
from service.logs import Wanted
from service.views import LogLine


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a job's log."""

    status: JobStatus
    lines: list[LogLine]
    length: int
    """Lines kept so far; those shown are the last of them."""

    @property
    def text(self) -> str:
        """The lines as they were printed."""
        return "\n".join(line.text for line in self.lines)

    @property
    def before(self) -> int:
        """How many lines come before those shown."""
        return self.length - len(self.lines)


async def ending(
    tx: Transaction, caller: Caller, handle: str, *, lines: int, max_bytes: int
) -> Ending:
    """Return the last lines of a job's log that fit; at least one, cut if need be.

    Raises:
        NotFound: the caller has no such job.
    """
    status = await jobs.find(tx, caller, handle)
    wanted = Wanted(cursor=0, tail=lines, grep=None, limit=lines, max_bytes=max_bytes)
    view, _, _ = await logs.page(tx, status, wanted)
    return Ending(status, view.lines, view.length)
