"""What the rows take up on disk: by table, and by kind of job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schema.db.database import Transaction

_READ_TABLES: Final = """
SELECT pg_class.relname AS name,
       greatest(reltuples, n_live_tup, 0)::bigint AS rows,
       pg_relation_size(pg_class.oid) AS heap_bytes,
       pg_indexes_size(pg_class.oid) AS index_bytes,
       pg_table_size(pg_class.oid) - pg_relation_size(pg_class.oid) AS toast_bytes
  FROM pg_class
  JOIN pg_stat_user_tables ON relid = pg_class.oid
 WHERE relnamespace = 'public'::regnamespace
 ORDER BY pg_total_relation_size(pg_class.oid) DESC, pg_class.relname
"""

# Ids of jobs are in the order of their making, so the first of an index is the oldest.
_READ_OLDEST: Final = """
SELECT (SELECT created_at FROM job ORDER BY id LIMIT 1) AS job,
       (SELECT at FROM job_event ORDER BY job_id, version LIMIT 1) AS job_event,
       (SELECT captured_at FROM log_chunk ORDER BY job_id, first_line LIMIT 1) AS log_chunk,
       (SELECT posted_at FROM remote_run ORDER BY job_id LIMIT 1) AS remote_run,
       (SELECT min(at) FROM schedule_firing) AS schedule_firing,
       (SELECT min(at) FROM audit_entry) AS audit_entry,
       (SELECT min(month)::timestamptz FROM spending) AS spending,
       (SELECT min(day)::timestamptz FROM usage_history) AS usage_history
"""

_READ_KINDS: Final = """
WITH parts (job_id, bytes) AS (
    SELECT job_id, pg_column_size(spec) + coalesce(pg_column_size(result), 0) FROM job_payload
    UNION ALL
    SELECT job_id, pg_column_size(facts) FROM job_event
    UNION ALL
    SELECT job_id, bytes FROM log_chunk
    UNION ALL
    SELECT job_id, size_bytes FROM job_file WHERE content IS NOT NULL
    UNION ALL
    SELECT job_id, pg_column_size(request) + coalesce(pg_column_size(result), 0) FROM batch_item
), sums AS (
    SELECT job_id, sum(bytes) AS bytes FROM parts GROUP BY job_id
)
SELECT kind,
       count(*) AS jobs,
       coalesce(sum(bytes), 0)::bigint AS bytes,
       count(*) FILTER (WHERE created_at > now() - interval '1 day') AS jobs_of_day,
       coalesce(sum(bytes) FILTER (WHERE created_at > now() - interval '1 day'), 0)::bigint
           AS bytes_of_day
  FROM job
  LEFT JOIN sums ON sums.job_id = job.id
 GROUP BY kind
 ORDER BY bytes DESC, kind
"""


@dataclass(frozen=True, slots=True)
class TableUsage:
    """A table on disk."""

    name: str
    rows: int
    """As Postgres estimates them."""
    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    """Of large values, which are stored beside their rows, and of the maps of free space."""
    oldest: datetime | None
    """When its oldest row was made; none if it is empty, or its rows have no time."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.heap_bytes + self.index_bytes + self.toast_bytes


@dataclass(frozen=True, slots=True)
class KindUsage:
    """The jobs of a kind: what their requests, events, logs, files and items take up."""

    kind: str
    jobs: int
    bytes: int
    """Of the values, as they are stored; without indexes and the headers of rows."""
    jobs_of_day: int
    """Of these, how many were made in the last 24 hours."""
    bytes_of_day: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What is on disk at one moment."""

    database_bytes: int
    tables: Sequence[TableUsage]
    """The largest first."""
    kinds: Sequence[KindUsage]


async def read_disk_usage(tx: Transaction) -> DiskUsage:
    """Read the sizes of all tables, and sum up the rows of jobs: that reads all of them."""
    oldest = await tx.fetchrow(_READ_OLDEST) or {}
    return DiskUsage(
        database_bytes=await tx.fetchval("SELECT pg_database_size(current_database())"),
        tables=[
            TableUsage(**row, oldest=oldest.get(row["name"]))
            for row in await tx.fetch(_READ_TABLES)
        ],
        kinds=[KindUsage(**row) for row in await tx.fetch(_READ_KINDS)],
    )
