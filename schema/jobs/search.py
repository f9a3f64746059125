"""Search for words in the jobs of a subject, the newest first.

No index can find a word: row-level security lets only leakproof operators be looked up in one. So
jobs are read one by one, until a page is full, or enough was read. The answer says where that was,
and the next search goes on behind it.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import Statement, parse_statement
from schema.jobs import queries
from schema.jobs.queries import JobFilter, JobStatus

_MAX_SEARCHED_JOBS: Final = 10_000
"""In one search; on two cores that takes 0.2 s."""
_MAX_SEARCHED_BYTES: Final = 16_000_000
"""Of requests, as they are stored, in one search."""
_SEARCHED_FIELDS: Final = (
    *("image", "command", "script", "script_args", "dependencies"),
    *("model", "inputs", "space", "api_name", "arguments"),
)
"""Of a request. Not `env`: people write into it what should be a secret."""
_SEARCHED_RECORD_SQL: Final = ", ".join(f"{name} text" for name in _SEARCHED_FIELDS)
_PATTERN_SYNTAX: Final = frozenset(".^$*+?()[]{}|\\")


def _search_statement(candidates: str, before_select: str = "") -> Statement:
    """Make a statement that looks for words in jobs, the newest first.

    The job at which it stops has `is_end`; the words are not looked for in those after it. A large
    request is decompressed once, by `jsonb_to_record`.

    Args:
        candidates: a subquery of jobs in their order, at most `:max_searched`.
        before_select: what the subquery names.
    """
    return parse_statement(f"""{before_select}
SELECT id, created_at, number, coalesce(matches, false) AS matches, is_end
  FROM (SELECT id, created_at, number,
               bytes - size <= :max_bytes
                   AND (bytes > :max_bytes OR number = :max_searched) AS is_end,
               CASE WHEN bytes - size <= :max_bytes THEN concat_ws(
                   ' ', title, flavor, reason, message,
                   (SELECT string_agg(label.key || '=' || label.value, ' ')
                      FROM jsonb_each_text(labels) AS label),
                   (SELECT concat_ws(' ', VARIADIC ARRAY[{", ".join(_SEARCHED_FIELDS)}])
                      FROM jsonb_to_record(spec) AS request ({_SEARCHED_RECORD_SQL})))
                   ~ ALL(:patterns::text[]) END AS matches
          FROM (SELECT job.*, payload.spec, pg_column_size(payload.spec) AS size,
                       row_number() OVER newer AS number,
                       sum(pg_column_size(payload.spec)) OVER newer AS bytes
                  FROM ({candidates}) AS job
                 CROSS JOIN LATERAL (
                       SELECT spec FROM job_payload WHERE job_payload.job_id = job.id LIMIT 1
                   ) AS payload
                WINDOW newer AS (ORDER BY job.id DESC ROWS UNBOUNDED PRECEDING)) AS measured
       ) AS searched
 WHERE matches OR is_end
 ORDER BY id DESC
 LIMIT :limit
""")  # noqa: S608  # our own words


_SEARCHED_COLUMNS: Final = "title, flavor, reason, message, labels, created_at"
_SEARCH_JOBS: Final = _search_statement(f"""
    SELECT id, {_SEARCHED_COLUMNS}
      FROM job
     WHERE job.subject_id = :subject_id
       AND (:before::uuid IS NULL OR job.id < :before)
           {queries.LIST_CONDITIONS_SQL}
     ORDER BY job.id DESC
     LIMIT :max_searched""")  # noqa: S608  # our own words
_SEARCH_LABELLED_JOBS: Final = _search_statement(
    f"""
    SELECT labelled.job_id AS id, {_SEARCHED_COLUMNS}
    {queries.LABELLED_JOBS_SQL}
     LIMIT :max_searched""",
    queries.RAREST_LABEL_SQL,
)


@dataclass(frozen=True, slots=True)
class SearchEnd:
    """The last job that a search has read, where there may be more."""

    job_id: UUID
    created_at: datetime
    searched: int
    """How many jobs were read."""


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs of a list, the newest first."""

    jobs: list[JobStatus]
    end: SearchEnd | None = None
    """Where the search for words stopped before its page was full; None: nothing is left out."""


async def search_jobs(
    tx: Transaction,
    subject_id: str,
    job_filter: JobFilter,
    *,
    before: UUID | None,
    limit: int,
    max_searched: int = _MAX_SEARCHED_JOBS,
    max_bytes: int = _MAX_SEARCHED_BYTES,
) -> JobList:
    """Return the newest jobs that are older than `before` and have all words of the filter.

    Without words, no job is searched and all are returned.

    Args:
        max_searched: how many jobs are read at most.
        max_bytes: how long the requests that are read may be together, but for the last one.
    """
    if not job_filter.words:
        return JobList(
            await queries.list_jobs(tx, subject_id, job_filter, before=before, limit=limit)
        )
    statement = _SEARCH_LABELLED_JOBS if job_filter.labels else _SEARCH_JOBS
    values = queries.bind_filter(subject_id, job_filter, before) | {
        "patterns": [_write_word_pattern(word) for word in job_filter.words],
        "max_searched": max_searched,
        "max_bytes": max_bytes,
        "limit": limit,
    }
    rows = await tx.fetch(*statement.bind(**values))
    matching_ids = [row["id"] for row in rows if row["matches"]]
    statuses = await queries.get_job_statuses(tx, subject_id, matching_ids) if matching_ids else {}
    jobs = [statuses[job_id] for job_id in matching_ids if job_id in statuses]
    ends = [SearchEnd(row["id"], row["created_at"], row["number"]) for row in rows if row["is_end"]]
    return JobList(jobs, ends[0] if ends else None)


def _write_word_pattern(word: str) -> str:
    """Write a regular expression of Postgres that finds a word in any case, in any locale.

    A list stands in a request as JSON, so a word may also be written as it is there.
    """
    forms = dict.fromkeys([word, json.dumps(word, ensure_ascii=False)[1:-1]])
    return "|".join("".join(map(_write_letter_pattern, form)) for form in forms)


def _write_letter_pattern(letter: str) -> str:
    variants = {letter, letter.lower(), letter.upper(), letter.upper().lower()}
    letters = "".join(sorted(variant for variant in variants if len(variant) == 1))
    if len(letters) > 1:
        return f"[{letters}]"
    return f"\\{letter}" if letter in _PATTERN_SYNTAX else letter
