"""What jobs leave in a Postgres of their own: bytes of tables, WAL, statements, updates.

Nothing here is a time, so a busy machine measures the same as a quiet one. The statements are read
from the server's log, by the application name of the connection that has sent them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from tests.support.polling import eventually

_PREFIX: Final = "%a "
"""Of a line of the log: the application name."""
_STATEMENT: Final = re.compile(
    r"^(?P<program>\w+) LOG:  (?:statement|execute [^:]*): \s*(?P<text>\S.*)$", re.MULTILINE
)
_TRANSACTION_WORDS: Final = ("BEGIN", "COMMIT", "ROLLBACK", "SET LOCAL synchronous_commit")
"""Beginnings of what opens and ends transactions; the last is the commit of `schema.db.database`"""
_COMMIT: Final = _TRANSACTION_WORDS[-1]

# Without the maps of free space and of visible pages: some ten pages for each table, however full.
_READ_TABLES: Final = """
SELECT statistics.relname AS table,
       pg_relation_size(relid) AS heap_bytes,
       pg_indexes_size(relid) AS index_bytes,
       coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0) AS toast_bytes,
       n_tup_upd AS updates,
       n_tup_hot_upd AS hot_updates
  FROM pg_stat_user_tables AS statistics
  JOIN pg_class ON pg_class.oid = relid
"""
# The insert position: what is not written out yet counts as well.
_READ_WAL: Final = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS bytes, wal_fpi AS fpi FROM pg_stat_wal
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """The size of a table and its updates so far."""

    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    """Of large values, with the index of their pieces."""
    updates: int
    hot_updates: int
    """Updates that wrote no index, because no indexed column changed and the page had room."""


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a server has written up to one moment."""

    wal_bytes: int
    full_pages: int
    """Pages written whole into the WAL, as each is once after a checkpoint."""
    log_bytes: int
    """The length of the server's log."""


@dataclass(frozen=True, slots=True)
class StatementCount:
    """What one program has sent."""

    transactions: int
    statements: int
    """Without those that open and end transactions."""
    round_trips: int
    """With them; one that only prepares a statement is not counted: it is rare."""


class TableMeter:
    """Reads a database of which nobody else makes use."""

    def __init__(self, url: str, log: Path) -> None:
        """Prepare the readings.

        Args:
            url: of the database, with the login of a superuser.
            log: of its server.
        """
        self._url = url
        self._log = log

    async def start_log(self) -> None:
        """Let the server log every statement of new connections, with the program's name."""
        connection = await self._connect()
        try:
            database = await connection.fetchval("SELECT current_database()")
            await connection.execute(f"ALTER SYSTEM SET log_line_prefix = '{_PREFIX}'")
            await connection.execute("SELECT pg_reload_conf()")
            await connection.execute(f"ALTER DATABASE \"{database}\" SET log_statement = 'all'")
        finally:
            await connection.close()

    async def write_checkpoint(self) -> None:
        """Write a checkpoint: from now on, the first change of each page writes the page whole."""
        connection = await self._connect()
        try:
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    async def read_server(self) -> ServerReading:
        """Read how much the server has written."""
        connection = await self._connect()
        try:
            wal = await connection.fetchrow(_READ_WAL)
        finally:
            await connection.close()
        assert wal is not None
        return ServerReading(int(wal["bytes"]), wal["fpi"], self._log.stat().st_size)

    async def read_tables(self) -> dict[str, TableSize]:
        """Vacuum all tables, and read their sizes and updates, when all programs have gone."""
        connection = await self._connect()

        async def count_others() -> int:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " AND application_name <> ''"  # without one: the connection that empties it later
            )
            return count

        try:
            await eventually(count_others, lambda count: count == 0)  # their statistics are whole
            await connection.execute("VACUUM ANALYZE")
            rows = await connection.fetch(_READ_TABLES)
        finally:
            await connection.close()
        return {row["table"]: TableSize(**dict(list(row.items())[1:])) for row in rows}

    def count_statements(self, since: ServerReading) -> dict[str, StatementCount]:
        """Count the statements in the log since a reading, by program."""
        with self._log.open("rb") as log:
            log.seek(since.log_bytes)
            return count_statements(log.read().decode(errors="replace"))

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self._url, server_settings={"application_name": "meter"})


def count_statements(log: str) -> dict[str, StatementCount]:
    """Count the statements in a log, by the program that has sent them."""
    texts: dict[str, list[str]] = {}
    for line in _STATEMENT.finditer(log):
        texts.setdefault(line["program"], []).append(line["text"])
    return {
        program: StatementCount(
            transactions=sum(text.startswith(_COMMIT) for text in sent),
            statements=sum(not text.startswith(_TRANSACTION_WORDS) for text in sent),
            round_trips=len(sent),
        )
        for program, sent in texts.items()
    }
