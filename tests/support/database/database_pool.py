"""Databases for tests: each test has one of its own, and one that is as new serves the next test.

To copy the template takes longer than most tests. A database is as new if nothing of its schema has
changed, and its rows are deleted again; otherwise it is dropped. One connection does so after each
test: what a new one reads of the catalogs, and plans, takes three times as long as the rest. It
belongs to a thread, since each test has an event loop of its own. While a test runs it is idle.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.database.invariants import COUNTER_MISMATCHES

_MAX_DELETED_ROWS: Final = 2000
"""A database that had more is dropped: its files have grown."""
_MARK_CATALOG: Final = """
UNION ALL SELECT '{catalog}', count(*), max(xmin::text::bigint) FROM {catalog}
"""
_CATALOGS: Final = (
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_depend",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_rewrite",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_trigger",
    "pg_type",
)
# The newest transaction of a catalog, or how many rows it has, differs after whatever was done.
_READ_SCHEMA_MARK: Final = f"""
SELECT 'settings' AS name, count(*), max(xmin::text::bigint)
  FROM pg_db_role_setting
 WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'database', 1, xmin::text::bigint FROM pg_database WHERE datname = current_database()
{" ".join(_MARK_CATALOG.format(catalog=catalog) for catalog in _CATALOGS)}
"""  # noqa: S608  # our own words
_LIST_TABLES: Final = """
SELECT relname FROM pg_class
 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
"""
_END_SESSIONS: Final = """
SELECT count(pg_terminate_backend(pid, 5000))
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend'
   AND pid <> pg_backend_pid()
"""
_RESET_SEQUENCES: Final = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
  FROM pg_sequences WHERE last_value IS NOT NULL
"""

Rows = dict[str, list[asyncpg.Record]]
T = TypeVar("T")


class DatabasePool:
    """The databases of one server, whose template is named by the URL of the server."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._marks: dict[str, list[asyncpg.Record]] = {}
        """What the schema of each database was like when it was new."""
        self._free: list[str] = []
        self._connections: dict[str, asyncpg.Connection] = {}
        self._delete_rows = ""
        """Deletes the rows of every table that a new database has empty, and counts them."""
        self._first_rows: Rows = {}
        """The rows that a new database has."""
        self._portal: BlockingPortal
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        self._portal = self._exit_stack.enter_context(start_blocking_portal("asyncio"))
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.call(self._close)
        self._exit_stack.close()

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[str]:
        """Yield the URL of a database with the rows of a new one, and check it afterwards."""
        name = self._free.pop() if self._free else await self._in_portal(self._create)
        yield self._url(name)
        is_clean = False
        try:
            is_clean = await self._in_portal(self._check_and_clean, name)
        finally:
            if is_clean:
                self._free.append(name)
            else:
                await self._in_portal(self._drop, name)

    async def _in_portal(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return await asyncio.wrap_future(self._portal.start_task_soon(function, *arguments))

    async def _create(self) -> str:
        name = f"test_{uuid4().hex}"
        template = urlsplit(self._server_url).path.lstrip("/")
        await self._execute_as_admin(
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'
        )
        connection = await self._connect(name)
        if not self._delete_rows:
            tables = [row["relname"] for row in await connection.fetch(_LIST_TABLES)]
            rows = await _read_rows(connection, tables)
            self._first_rows = {table: rows[table] for table in tables if rows[table]}
            self._delete_rows = _build_deletion([each for each in tables if not rows[each]])
        self._marks[name] = await connection.fetch(_READ_SCHEMA_MARK)
        return name

    async def _check_and_clean(self, name: str) -> bool:
        """Check the rows of a test, and make its database as new; false if it has to be dropped."""
        connection = self._connections[name]
        try:
            await connection.execute("SELECT 1")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection = await self._connect(name)  # the test has ended all sessions
        await _assert_consistent(connection)
        await connection.execute(_END_SESSIONS)
        if await connection.fetch(_READ_SCHEMA_MARK) != self._marks[name]:
            return False
        if await _read_rows(connection, list(self._first_rows)) != self._first_rows:
            return False
        deleted_rows: int = await connection.fetchval(self._delete_rows)
        await connection.execute(_RESET_SEQUENCES)
        return deleted_rows <= _MAX_DELETED_ROWS

    async def _drop(self, name: str) -> None:
        await self._connections.pop(name).close()
        await self._execute_as_admin(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def _connect(self, name: str) -> asyncpg.Connection:
        # Without triggers and foreign keys: what is append-only goes as well.
        connection = self._connections[name] = await asyncpg.connect(
            self._url(name), server_settings={"session_replication_role": "replica"}
        )
        return connection

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    async def _execute_as_admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _build_deletion(tables: Sequence[str]) -> str:
    deletions = (f'"{table}" AS (DELETE FROM "{table}" RETURNING 1)' for table in tables)  # noqa: S608  # our tables
    counts = (f'(SELECT count(*) FROM "{table}")' for table in tables)  # noqa: S608  # the same
    return f"WITH {', '.join(deletions)} SELECT {' + '.join(counts)}"


async def _assert_consistent(connection: asyncpg.Connection) -> None:
    """Check after every test that each owed step has an owner, and that the counters are right."""
    assert await connection.fetch("SELECT * FROM v_unowned") == []
    assert await connection.fetch(COUNTER_MISMATCHES) == []


async def _read_rows(connection: asyncpg.Connection, tables: Sequence[str]) -> Rows:
    return {table: await connection.fetch(f'SELECT * FROM "{table}"') for table in tables}  # noqa: S608  # our tables
