"""The log store: lines are appended once, in order, and read by their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement

MAX_LINE_BYTES: Final = 65_536
"""The longest line."""
_MAX_SEARCHED_BYTES: Final = 16 * 1024 * 1024
"""How much of a log one search reads."""
_MAX_DROPPED_CHUNKS: Final = 64
"""How many chunks are dropped from a tail at a time; more than one append adds."""

# The job is locked first, as everywhere: the foreign keys would lock it after its run.
# With the end of its run the secrets of a job are deleted: whoever opens none then redacts nothing.
_APPEND_LINES: Final = parse_statement("""
WITH locked AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR KEY SHARE
), read AS (
    UPDATE remote_run AS run
       SET log_lines = :end_line
      FROM locked
     WHERE run.id = :run_id
       AND run.job_id = locked.id
       AND run.state = 'bound'
       AND log_lines = :start_line
    RETURNING run.job_id
), counted AS (
    INSERT INTO job_log AS log (job_id, length, head_lines, head_bytes, tail_start, tail_bytes)
    SELECT job_id, :line_count::bigint, head * :line_count, head * :size_bytes,
           head * :line_count, (1 - head) * :size_bytes
      FROM read,
           (SELECT (:size_bytes::bigint <= :max_half_bytes::bigint)::int::bigint AS head) AS goes_to
    ON CONFLICT (job_id) DO UPDATE
       SET length = log.length + :line_count,
           (head_lines, head_bytes, tail_start, tail_bytes) = (
               SELECT log.head_lines + head * :line_count,
                      log.head_bytes + head * :size_bytes,
                      log.tail_start + head * :line_count,
                      log.tail_bytes + (1 - head) * :size_bytes
                 FROM (SELECT (log.head_lines = log.length
                               AND log.head_bytes + :size_bytes <= :max_half_bytes)::int::bigint
                              AS head) AS goes_to)
    RETURNING job_id, length - :line_count AS first_line, tail_bytes
), kept AS (
    INSERT INTO log_chunk (job_id, first_line, line_count, bytes, lines)
    SELECT job_id, first_line, :line_count, :size_bytes, :lines::text[] FROM counted
)
SELECT job_id, tail_bytes FROM counted
""")

_DROP_OLDEST_TAIL: Final = """
WITH log AS (
    SELECT job_id, tail_start, tail_bytes FROM job_log WHERE job_id = $1
), oldest AS (
    SELECT chunk.first_line, chunk.line_count, chunk.bytes,
           sum(chunk.bytes) OVER (ORDER BY chunk.first_line) - chunk.bytes AS gone
      FROM log
      JOIN log_chunk AS chunk USING (job_id)
     WHERE chunk.first_line >= log.tail_start
     ORDER BY chunk.first_line
     LIMIT $3
), dropped AS (
    DELETE FROM log_chunk AS chunk USING oldest, log
     WHERE chunk.job_id = $1
       AND chunk.first_line = oldest.first_line
       AND log.tail_bytes - oldest.gone > $2
    RETURNING chunk.line_count, chunk.bytes
)
UPDATE job_log
   SET tail_start = tail_start + (SELECT coalesce(sum(line_count), 0) FROM dropped),
       tail_bytes = tail_bytes - (SELECT coalesce(sum(bytes), 0) FROM dropped)
 WHERE job_id = $1
"""

# The bytes of a page, not its lines, limit how many chunks are unpacked for it.
_READ_LINES: Final = parse_statement("""
SELECT chunk.first_line + each.place - 1 AS number, each.text
  FROM (SELECT chunk.first_line, chunk.lines,
               sum(chunk.bytes) OVER page - chunk.bytes - first_value(chunk.bytes) OVER page
                   AS before
          FROM log_chunk AS chunk
          JOIN job ON job.id = chunk.job_id
         WHERE job.subject_id = :subject_id
           AND chunk.job_id = :job_id
           AND chunk.first_line >= coalesce((
                   SELECT max(first_line)
                     FROM log_chunk
                    WHERE job_id = :job_id
                      AND first_line <= :start), 0)
        WINDOW page AS (ORDER BY chunk.first_line)
         ORDER BY chunk.first_line
         LIMIT :limit + 1) AS chunk,
       LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
 WHERE chunk.before < :max_bytes
   AND chunk.first_line + each.place > :start
 ORDER BY chunk.first_line, each.place
 LIMIT :limit
""")

_SEARCHED_CHUNKS: Final = """
SELECT first_line, line_count, lines
  FROM (SELECT chunk.first_line, chunk.line_count, chunk.lines,
               sum(chunk.bytes) OVER (ORDER BY chunk.first_line) - chunk.bytes AS before
          FROM log_chunk AS chunk
          JOIN job ON job.id = chunk.job_id
         WHERE job.subject_id = :subject_id
           AND chunk.job_id = :job_id
           AND chunk.first_line >= coalesce((
                   SELECT max(first_line)
                     FROM log_chunk
                    WHERE job_id = :job_id
                      AND first_line <= :start), 0)
         ORDER BY chunk.first_line
         LIMIT 10000) AS chunk
 WHERE before < :max_bytes
"""

_SEARCH_LINES: Final = parse_statement(f"""
SELECT chunk.first_line + each.place - 1 AS number, each.text
  FROM ({_SEARCHED_CHUNKS}) AS chunk,
       LATERAL unnest(chunk.lines) WITH ORDINALITY AS each (text, place)
 WHERE chunk.first_line + each.place > :start
   AND position(lower(:text) IN lower(each.text)) > 0
 ORDER BY chunk.first_line, each.place
 LIMIT :limit
""")  # noqa: S608  # our own words

_SEARCH_END: Final = parse_statement(f"""
SELECT coalesce(max(first_line + line_count), 0) FROM ({_SEARCHED_CHUNKS}) AS chunk
""")  # noqa: S608  # our own words

_READ_EXTENT: Final = """
SELECT log.length, log.head_lines, log.tail_start
  FROM job_log AS log
  JOIN job ON job.id = log.job_id
 WHERE job.subject_id = $1
   AND log.job_id = $2
"""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """One line of a job's log; numbers start at 0, and only dropped lines are missing."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class LogExtent:
    """How long a log is, and which lines of it were dropped."""

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
    """Append lines of a run; false if they are in the log already, or the run is over.

    Args:
        start_line: how many lines of the run were captured before these.
        max_log_bytes: the size of a whole log; half of it is for the beginning, half for the end.
        end_line: how many lines of the run are captured with these. None if that follows from
            their number; it does not if some of them are ours.
    """
    max_half_bytes = max_log_bytes // 2
    row = await tx.fetchrow(
        *_APPEND_LINES.bind(
            run_id=run_id,
            start_line=start_line,
            end_line=start_line + len(lines) if end_line is None else end_line,
            line_count=len(lines),
            size_bytes=sum(len(line.encode()) + 1 for line in lines),
            lines=lines,
            max_half_bytes=max_half_bytes,
        )
    )
    if row is not None and row["tail_bytes"] > max_half_bytes:
        await tx.execute(_DROP_OLDEST_TAIL, row["job_id"], max_half_bytes, _MAX_DROPPED_CHUNKS)
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
    """Return up to `limit` lines, or `max_bytes`, of the subject's job from line `start` on."""
    rows = await tx.fetch(
        *_READ_LINES.bind(
            subject_id=subject_id, job_id=job_id, start=start, limit=limit, max_bytes=max_bytes
        )
    )
    return [NumberedLine(row["number"], row["text"]) for row in rows]


async def search_lines(
    tx: Transaction, subject_id: str, job_id: UUID, *, text: str, start: int, limit: int
) -> tuple[list[NumberedLine], int]:
    """Search for a text, whatever its case.

    Returns:
        The lines, and the number of the first line that was not searched.
    """
    searched: dict[str, object] = {
        "subject_id": subject_id,
        "job_id": job_id,
        "start": start,
        "max_bytes": _MAX_SEARCHED_BYTES,
    }
    rows = await tx.fetch(*_SEARCH_LINES.bind(**searched, text=text, limit=limit))
    search_end: int = await tx.fetchval(*_SEARCH_END.bind(**searched))
    return [NumberedLine(row["number"], row["text"]) for row in rows], max(search_end, start)


async def read_log_extent(tx: Transaction, subject_id: str, job_id: UUID) -> LogExtent:
    """Return how long the log of the subject's job is."""
    row = await tx.fetchrow(_READ_EXTENT, subject_id, job_id)
    return LogExtent() if row is None else LogExtent(**row)


_EXCERPT_SEARCH_LINES: Final = 2000
"""How many lines before the end are searched."""


_MAX_EXCERPT_LINES: Final = 200


_MAX_EXCERPT_LINE_CHARS: Final = 1000
"""How much of a line is searched, and returned: of its beginning and of its end."""


_READ_EXCERPTS: Final = parse_statement("""
SELECT job.id, told.number, told.text
  FROM job
 CROSS JOIN LATERAL (
      SELECT placed.number, placed.text
        FROM (SELECT line.number, line.text,
                     row_number() OVER (ORDER BY line.number DESC) AS from_end
                FROM (SELECT latest.first_line + latest.skip + each.place - 2 AS number,
                             CASE WHEN length(each.text) <= :max_line_chars THEN each.text
                                  ELSE left(each.text, (:max_line_chars - 3) / 2) || ' … '
                                       || right(each.text, (:max_line_chars - 3) / 2) END AS text
                        FROM (SELECT first_line, lines,
                                     greatest(1, cardinality(lines) - :searched_lines + 1) AS skip
                                FROM log_chunk
                               WHERE job_id = job.id
                               ORDER BY first_line DESC
                               LIMIT 50) AS latest,
                             LATERAL unnest(latest.lines[latest.skip:])
                                 WITH ORDINALITY AS each (text, place)
                       ORDER BY number DESC
                       LIMIT :searched_lines) AS line) AS placed
       WHERE placed.from_end <= :tail_lines
          OR placed.text ~ :pattern
       ORDER BY placed.number DESC
       LIMIT :max_lines
  ) AS told
 WHERE job.subject_id = :subject_id
   AND job.id = ANY(:job_ids::uuid[])
 ORDER BY job.id, told.number
""")


async def read_excerpts(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID], *, tail_lines: int, pattern: str
) -> dict[UUID, list[NumberedLine]]:
    """Return the last lines of each job of the subject, and earlier lines that match a pattern."""
    excerpts: dict[UUID, list[NumberedLine]] = {job_id: [] for job_id in job_ids}
    rows = await tx.fetch(
        *_READ_EXCERPTS.bind(
            subject_id=subject_id,
            job_ids=job_ids,
            tail_lines=tail_lines,
            pattern=pattern,
            searched_lines=_EXCERPT_SEARCH_LINES,
            max_lines=_MAX_EXCERPT_LINES,
            max_line_chars=_MAX_EXCERPT_LINE_CHARS,
        )
    )
    for row in rows:
        excerpts[row["id"]].append(NumberedLine(row["number"], row["text"]))
    return excerpts
