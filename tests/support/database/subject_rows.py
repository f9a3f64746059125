"""The rows of one subject in every table, as text."""

from schema.accounts.tables import SubjectTable
from schema.db.database import Database
from schema.tables import METADATA

_ROWS = """
SELECT stored::text AS text
  FROM {table} AS stored
 WHERE $1 IN (to_jsonb(stored) ->> '{column}',
              (SELECT job.subject_id FROM job WHERE job.id::text = to_jsonb(stored) ->> 'job_id'))
 ORDER BY 1
"""


async def read_rows_of(database: Database, subject_id: str) -> dict[str, list[str]]:
    """Read all rows of a subject, by table; a table without any is left out."""
    rows: dict[str, list[str]] = {}
    async with database.transaction() as tx:
        for table in sorted(METADATA.tables):
            column = "id" if table == SubjectTable.__tablename__ else "subject_id"
            texts = await tx.fetch(_ROWS.format(table=table, column=column), subject_id)
            if texts:
                rows[table] = [row["text"] for row in texts]
    return rows


async def find_mentions(database: Database, text: str) -> dict[str, int]:
    """Count the rows in which a text stands anywhere, by table; none where it does not."""
    async with database.transaction() as tx:
        counts = {
            table: await tx.fetchval(
                f"SELECT count(*) FROM {table} AS stored WHERE strpos(stored::text, $1) > 0",  # noqa: S608  # our names
                text,
            )
            for table in METADATA.tables
        }
    return {table: count for table, count in counts.items() if count}
