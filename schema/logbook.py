"""The keeping of logs: lines are appended once, in order, and read by the number of a line."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.database import Transaction

MAX_LINES: Final = 100_000
"""Lines kept of one job; what upstream writes after that is counted as cut off."""

_APPEND: Final = """
WITH read AS (
    UPDATE remote_run SET log_lines = log_lines + cardinality($3::text[])
     WHERE id = $1 AND log_lines = $2
    RETURNING job_id
), next AS (
    SELECT read.job_id, coalesce(max(chunk.first_line + cardinality(chunk.lines)), 0) AS line
      FROM read LEFT JOIN log_chunk AS chunk ON chunk.job_id = read.job_id
     GROUP BY read.job_id
)
INSERT INTO log_chunk (job_id, first_line, lines)
SELECT job_id, line, $3 FROM next WHERE line < $4
"""

_READ: Final = """
SELECT line.number, line.text FROM (
    SELECT chunk.first_line + each.place - 1 AS number, each.text
      FROM log_chunk AS chunk
      JOIN job ON job.id = chunk.job_id,
      LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
     WHERE chunk.job_id = $2 AND job.subject_id = $1
       AND chunk.first_line + cardinality(chunk.lines) > $3
) AS line
 WHERE line.number >= $3 ORDER BY line.number LIMIT $4
"""

_END: Final = """
SELECT coalesce(max(chunk.first_line + cardinality(chunk.lines)), 0)
  FROM log_chunk AS chunk JOIN job ON job.id = chunk.job_id
 WHERE chunk.job_id = $2 AND job.subject_id = $1
"""

_TAILS: Final = """
SELECT job.id, each.text
  FROM job
  CROSS JOIN LATERAL (
      SELECT max(first_line + cardinality(lines)) - $3 AS line FROM log_chunk WHERE job_id = job.id
  ) AS start
  JOIN log_chunk AS chunk
    ON chunk.job_id = job.id AND chunk.first_line + cardinality(chunk.lines) > start.line
  CROSS JOIN LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
 WHERE job.subject_id = $1 AND job.id = ANY($2::uuid[])
   AND chunk.first_line + each.place - 1 >= start.line
 ORDER BY chunk.first_line, each.place
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's log; numbers start at 0 and have no gaps."""

    number: int
    text: str


async def append(tx: Transaction, run_id: UUID, lines: list[str], *, already: int) -> None:
    """Keep the lines that follow the first `already` of a run; a second capture adds nothing."""
    await tx.execute(_APPEND, run_id, already, lines, MAX_LINES)


async def read(
    tx: Transaction, subject_id: str, job_id: UUID, *, start: int, limit: int
) -> list[Line]:
    """Return up to `limit` lines of the subject's job, from line `start` on."""
    rows = await tx.fetch(_READ, subject_id, job_id, start, limit)
    return [Line(row["number"], row["text"]) for row in rows]


async def tails(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID], *, limit: int
) -> dict[UUID, list[str]]:
    """Return up to `limit` last lines of each of the subject's jobs that has any."""
    lines: defaultdict[UUID, list[str]] = defaultdict(list)
    for row in await tx.fetch(_TAILS, subject_id, job_ids, limit):
        lines[row["id"]].append(row["text"])
    return dict(lines)


async def length(tx: Transaction, subject_id: str, job_id: UUID) -> int:
    """Return how many lines of the subject's job are kept."""
    lines: int = await tx.fetchval(_END, subject_id, job_id)
    return lines
