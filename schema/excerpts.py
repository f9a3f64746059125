"""Which lines of a log tell how it ended? Its last ones, and those near its end that match.

One bounded statement: it reads the ends of logs however long the logs are.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from schema.database import Transaction
from schema.logbook import Line

_NEAR: Final = 2000
"""Lines before the end that are searched."""
_MOST: Final = 200
_LENGTH: Final = 1000
"""Letters of a line that are looked at, and returned."""

_TELLING: Final = """
SELECT job.id, told.number, told.text
  FROM job CROSS JOIN LATERAL (
      SELECT placed.number, placed.text
        FROM (SELECT line.number, line.text,
                     row_number() OVER (ORDER BY line.number DESC) AS from_end
                FROM (SELECT latest.first_line + latest.skip + each.place - 2 AS number,
                             left(each.text, $7) AS text
                        FROM (SELECT first_line, lines,
                                     greatest(1, cardinality(lines) - $5 + 1) AS skip
                                FROM log_chunk WHERE job_id = job.id
                               ORDER BY first_line DESC LIMIT 50) AS latest,
                             LATERAL unnest(latest.lines[latest.skip:])
                                 WITH ORDINALITY AS each (text, place)
                       ORDER BY number DESC LIMIT $5) AS line) AS placed
       WHERE placed.from_end <= $3 OR placed.text ~ $4
       ORDER BY placed.number DESC LIMIT $6
  ) AS told
 WHERE job.subject_id = $1 AND job.id = ANY($2::uuid[])
 ORDER BY job.id, told.number
"""


async def telling(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID], *, tail: int, pattern: str
) -> dict[UUID, list[Line]]:
    """Return of each of the subject's jobs the last `tail` lines, and those before that match."""
    said: dict[UUID, list[Line]] = {job_id: [] for job_id in job_ids}
    where = (subject_id, job_ids, tail, pattern, _NEAR, _MOST, _LENGTH)
    for row in await tx.fetch(_TELLING, *where):
        said[row["id"]].append(Line(row["number"], row["text"]))
    return said
