"""A clock of Postgres that a test sets forward and back, in a database of its own.

Every statement asks the database for the time by the name of a function, so a schema that is
searched before the built-in functions decides what it answers.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import asyncpg

_SETUP: Final = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock AS SELECT interval '0' AS ahead;
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + ahead FROM moved.clock';
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + ahead FROM moved.clock';
GRANT USAGE ON SCHEMA moved TO PUBLIC;
GRANT SELECT ON moved.clock TO PUBLIC;
ALTER DATABASE "{name}" SET search_path = moved, pg_catalog, public;
"""


@dataclass(frozen=True, slots=True)
class MovableClock:
    """The clock of one database, for connections that are opened after `create`."""

    database_url: str

    async def create(self) -> None:
        """Make the clock; it shows the right time."""
        await self._execute(_SETUP.format(name=urlsplit(self.database_url).path[1:]))

    async def set_ahead(self, ahead: timedelta) -> None:
        """Set how far the clock is ahead of the right time; negative: behind it."""
        await self._execute("UPDATE moved.clock SET ahead = $1", ahead)

    async def _execute(self, statement: str, *arguments: object) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()
