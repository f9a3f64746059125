"""The progress of a call under way, as its executor reports it; nothing is decided by it."""

from dataclasses import asdict, dataclass
from typing import Any, Final
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


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a call is: `done` of `total`; both are none where it cannot be counted."""

    done: int | None = None
    total: int | None = None
    message: str | None = None
    """A few words, such as a place in a queue."""
    partial: str | None = None
    """What it has yielded last, if it yields results before its end; no event repeats it."""

    def to_record(self) -> dict[str, Any]:
        """Return what is stored of it, shortened."""
        record = asdict(self)
        if self.message is not None:
            record["message"] = shorten(self.message, _MAX_MESSAGE_CHARS)
        if self.partial is None:
            del record["partial"]
        else:
            record["partial"] = truncate(self.partial, _MAX_PARTIAL_CHARS, keeps_end=True)
        return record


async def record_progress(
    tx: Transaction, run_id: UUID, progress: JobProgress, *, worker: str
) -> bool:
    """Record how far a run is; false if that is recorded already, or the run is over."""
    record = progress.to_record()
    return bool(await tx.fetchval(_RECORD_PROGRESS, run_id, record, worker))
