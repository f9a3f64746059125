"""The keeping of logs: lines are appended once, in order, and read by the number of a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.db.database import Transaction

MAX_LINE_BYTES: Final = 65_536
"""Bytes that a line may have."""
_MAX_SEARCHED_BYTES: Final = 16 * 1024 * 1024
"""Bytes that one search looks through."""
_MAX_DROPPED_CHUNKS: Final = 64
"""Chunks taken off a tail at a time; more than one append adds."""

# The job is locked first, as everywhere: the foreign keys would lock it after its run.
_APPEND_LINES: Final = """
WITH locked AS MATERIALIZED (
    SELECT id FROM job WHERE id = (SELECT job_id FROM remote_run WHERE id = $1) FOR KEY SHARE
), read AS (
    UPDATE remote_run AS run SET log_lines = $3 FROM locked
     WHERE run.id = $1 AND run.job_id = locked.id AND log_lines = $2
    RETURNING run.job_id
), counted AS (
    INSERT INTO job_log AS log (job_id, length, head_lines, head_bytes, tail_start, tail_bytes)
    SELECT job_id, $4::bigint, head * $4, head * $5, head * $4, (1 - head) * $5
      FROM read, (SELECT ($5::bigint <= $7::bigint)::int::bigint AS head) AS goes_to
    ON CONFLICT (job_id) DO UPDATE
       SET length = log.length + $4,
           (head_lines, head_bytes, tail_start, tail_bytes) = (
               SELECT log.head_lines + head * $4, log.head_bytes + head * $5,
                      log.tail_start + head * $4, log.tail_bytes + (1 - head) * $5
                 FROM (SELECT (log.head_lines = log.length
                               AND log.head_bytes + $5 <= $7)::int::bigint AS head) AS goes_to)
    RETURNING job_id, length - $4 AS first_line, tail_bytes
), kept AS (
    INSERT INTO log_chunk (job_id, first_line, line_count, bytes, lines)
    SELECT job_id, first_line, $4, $5, $6::text[] FROM counted
)
SELECT job_id, tail_bytes FROM counted
"""

_DROP_OLDEST_TAIL: Final = """
WITH log AS (
    SELECT job_id, tail_start, tail_bytes FROM job_log WHERE job_id = $1
), oldest AS (
    SELECT chunk.first_line, chunk.line_count, chunk.bytes,
           sum(chunk.bytes) OVER (ORDER BY chunk.first_line) - chunk.bytes AS gone
      FROM log JOIN log_chunk AS chunk USING (job_id)
     WHERE chunk.first_line >= log.tail_start
     ORDER BY chunk.first_line LIMIT $3
), dropped AS (
    DELETE FROM log_chunk AS chunk USING oldest, log
     WHERE chunk.job_id = $1 AND chunk.first_line = oldest.first_line
       AND log.tail_bytes - oldest.gone > $2
    RETURNING chunk.line_count, chunk.bytes
)
UPDATE job_log SET tail_start = tail_start + (SELECT coalesce(sum(line_count), 0) FROM dropped),
                   tail_bytes = tail_bytes - (SELECT coalesce(sum(bytes), 0) FROM dropped)
 WHERE job_id = $1
"""

# A page's bytes, not its lines, say how many chunks are unpacked for it.
_READ_LINES: Final = """
SELECT chunk.first_line + each.place - 1 AS number, each.text
  FROM (SELECT chunk.first_line, chunk.lines,
               sum(chunk.bytes) OVER page - chunk.bytes - first_value(chunk.bytes) OVER page
                   AS before
          FROM log_chunk AS chunk JOIN job ON job.id = chunk.job_id
         WHERE job.subject_id = $1 AND chunk.job_id = $2
           AND chunk.first_line >= coalesce((
               SELECT max(first_line) FROM log_chunk WHERE job_id = $2 AND first_line <= $3), 0)
        WINDOW page AS (ORDER BY chunk.first_line)
         ORDER BY chunk.first_line LIMIT $4 + 1) AS chunk,
       LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
 WHERE chunk.before < $5 AND chunk.first_line + each.place > $3
 ORDER BY chunk.first_line, each.place LIMIT $4
"""

_SEARCHED_CHUNKS: Final = """
SELECT first_line, line_count, lines
  FROM (SELECT chunk.first_line, chunk.line_count, chunk.lines,
               sum(chunk.bytes) OVER (ORDER BY chunk.first_line) - chunk.bytes AS before
          FROM log_chunk AS chunk JOIN job ON job.id = chunk.job_id
         WHERE job.subject_id = $1 AND chunk.job_id = $2
           AND chunk.first_line >= coalesce((
               SELECT max(first_line) FROM log_chunk WHERE job_id = $2 AND first_line <= $3), 0)
         ORDER BY chunk.first_line LIMIT 10000) AS chunk
 WHERE before < $4
"""

_SEARCH_LINES: Final = f"""
SELECT chunk.first_line + each.place - 1 AS number, each.text
  FROM ({_SEARCHED_CHUNKS}) AS chunk,
       LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
 WHERE chunk.first_line + each.place > $3
   AND position(lower($5) IN lower(each.text)) > 0
 ORDER BY chunk.first_line, each.place LIMIT $6
"""  # noqa: S608  # our own words

_SEARCH_END: Final = f"""
SELECT coalesce(max(first_line + line_count), 0) FROM ({_SEARCHED_CHUNKS}) AS chunk
"""  # noqa: S608  # our own words

_READ_EXTENT: Final = """
SELECT log.length, log.head_lines, log.tail_start
  FROM job_log AS log JOIN job ON job.id = log.job_id
 WHERE job.subject_id = $1 AND log.job_id = $2
"""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """One line of a job's log; numbers start at 0, and leave out only what is not kept."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class LogExtent:
    """How long a log is, and between which lines there was no room."""

    length: int = 0
    head_lines: int = 0
    tail_start: int = 0

    @property
    def dropped_lines(self) -> int:
        """How many lines were dropped from the middle."""
        return self.tail_start - self.head_lines


async def append_lines(
    tx: Transaction,
    run_id: UUID,
    lines: list[str],
    *,
    start_line: int,
    max_log_bytes: int,
    end_line: int | None = None,
) -> bool:
    """Keep the lines that follow the first `already` of a run; false if those are kept already.

    They are all up to line `upto` of what the run wrote, unless some of them are words of ours.
    """
    size, half = sum(len(line.encode()) + 1 for line in lines), max_log_bytes // 2
    reached = start_line + len(lines) if end_line is None else end_line
    row = await tx.fetchrow(
        _APPEND_LINES, run_id, start_line, reached, len(lines), size, lines, half
    )
    if row is not None and row["tail_bytes"] > half:
        await tx.execute(_DROP_OLDEST_TAIL, row["job_id"], half, _MAX_DROPPED_CHUNKS)
    return row is not None


async def read_lines(
    tx: Transaction,
    subject_id: str,
    job_id: UUID,
    *,
    start: int,
    limit: int,
    max_bytes: int = MAX_LINE_BYTES,
) -> list[NumberedLine]:
    """Return up to `limit` lines of the subject's job from line `start` on, or `size` bytes."""
    rows = await tx.fetch(_READ_LINES, subject_id, job_id, start, limit, max_bytes)
    return [NumberedLine(row["number"], row["text"]) for row in rows]


async def search_lines(
    tx: Transaction, subject_id: str, job_id: UUID, *, text: str, start: int, limit: int
) -> tuple[list[NumberedLine], int]:
    """Return lines with a text in them, whatever its case, and the first line not looked at."""
    where = (subject_id, job_id, start, _MAX_SEARCHED_BYTES)
    rows = await tx.fetch(_SEARCH_LINES, *where, text, limit)
    upto: int = await tx.fetchval(_SEARCH_END, *where)
    return [NumberedLine(row["number"], row["text"]) for row in rows], max(upto, start)


async def read_log_extent(tx: Transaction, subject_id: str, job_id: UUID) -> LogExtent:
    """Return how long the log of the subject's job is."""
    row = await tx.fetchrow(_READ_EXTENT, subject_id, job_id)
    return LogExtent() if row is None else LogExtent(**row)


_EXCERPT_SEARCH_LINES: Final = 2000
"""Lines before the end that are searched."""


_MAX_EXCERPT_LINES: Final = 200


_MAX_EXCERPT_LINE_CHARS: Final = 1000
"""Letters of a line that are looked at, and returned."""


_READ_EXCERPTS: Final = """
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


async def read_excerpts(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID], *, tail_lines: int, pattern: str
) -> dict[UUID, list[NumberedLine]]:
    """Return of each of the subject's jobs the last `tail` lines, and those before that match."""
    said: dict[UUID, list[NumberedLine]] = {job_id: [] for job_id in job_ids}
    where = (
        subject_id,
        job_ids,
        tail_lines,
        pattern,
        _EXCERPT_SEARCH_LINES,
        _MAX_EXCERPT_LINES,
        _MAX_EXCERPT_LINE_CHARS,
    )
    for row in await tx.fetch(_READ_EXCERPTS, *where):
        said[row["id"]].append(NumberedLine(row["number"], row["text"]))
    return said
