"""The progress of a call under way, as its executor reports it; nothing is decided by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from schema.common.text import shorten, truncate
from schema.db.database import Transaction

_RECORD_PROGRESS: Final = """
WITH before AS MATERIALIZED (
    SELECT job.id
      FROM job
      JOIN remote_run AS run ON run.job_id = job.id
     WHERE run.id = $1
       AND run.state IN ('posting', 'bound')
       AND run.desired = 'alive'
       AND job.state = 'running'
       AND job.progress IS DISTINCT FROM $2::jsonb
       FOR UPDATE OF job
), moved AS (
    UPDATE job
       SET progress = $2,
           version = version + 1
      FROM before
     WHERE job.id = before.id
       AND job.state = 'running'
    RETURNING job.*
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'progressed', state, $3, jsonb_strip_nulls(progress - 'partial')
      FROM moved
)
SELECT count(*) FROM moved
"""

_MAX_MESSAGE_CHARS: Final = 200
_MAX_PARTIAL_CHARS: Final = 2000


class TextRedactor(Protocol):
    """What puts marks in the place of the secrets of a job."""

    max_secret_chars: int
    """The length of the longest secret, in characters."""

    def redact(self, text: str) -> str:
        """Return a text with marks in the place of secrets."""
        ...


RenderPartial = Callable[[TextRedactor], str | None]
"""Writes what a call has yielded last, without secrets; None if nothing can be shown."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a call is: `done` of `total`; both are none where it cannot be counted."""

    done: int | None = None
    total: int | None = None
    message: str | None = None
    """A few words, such as a place in a queue."""
    render_partial: RenderPartial | None = None
    """Called only when the progress is written, which most reports never are."""

    def to_record(self) -> dict[str, Any]:
        """Return what is stored of it, shortened."""
        message = self.message and shorten(self.message, _MAX_MESSAGE_CHARS)
        return {"done": self.done, "total": self.total, "message": message}


async def record_progress(
    tx: Transaction,
    run_id: UUID,
    progress: JobProgress,
    *,
    partial: str | None = None,
    worker: str,
) -> bool:
    """Record how far a run is; false if that is recorded already, or the run is over.

    Args:
        partial: what it has yielded last, if it yields results before its end, without secrets; no
            event repeats it.
    """
    record = progress.to_record()
    if partial is not None:
        record["partial"] = truncate(partial, _MAX_PARTIAL_CHARS, keeps_end=True)
    return bool(await tx.fetchval(_RECORD_PROGRESS, run_id, record, worker))
