"""The database of a process: one pool, and one transaction for each unit of work.

Statements are SQL and go to the driver (ADR 1): each transition is one round trip, and its text is
the rule that it enforces. The tables are declared with SQLModel, and rows are read into records.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol, Self, cast
from uuid import UUID

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy

from schema.common.errors import HoldfastError, InDoubt, RoleRefused, Unavailable
from schema.common.ids import JobChangeListener
from schema.common.observability.causes import CauseLog
from schema.common.observability.metrics import PoolUsage
from schema.common.observability.transitions import JobTransition, TransitionListener
from schema.common.urls.postgres import PostgresServer, parse_postgres_url
from schema.db.replay import ReplayedTransaction

_UNAVAILABLE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,  # class 28
    asyncpg.InvalidCatalogNameError,  # there is no such database
    asyncpg.exceptions.TransactionRollbackError,  # class 40
    asyncpg.exceptions.InsufficientResourcesError,  # class 53
    asyncpg.exceptions.OperatorInterventionError,  # class 57: also "the database is starting up"
    asyncpg.exceptions.PostgresSystemError,  # class 58
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a replica, in the middle of a failover
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    # A migration has altered a table beneath a transaction that could not be begun again.
    asyncpg.exceptions.InvalidCachedStatementError,
)
"""What the driver raises when the server, and not the statement, is at fault."""
_COMMAND_TIMEOUT: Final = timedelta(seconds=30)
"""Longer than the server's own `statement_timeout`, which tells us more."""
_ACQUIRE_TIMEOUT: Final = timedelta(seconds=5)
"""How long a caller waits for a connection, unless the URL allows a new one more time."""
_CLOSE_TIMEOUT: Final = timedelta(seconds=0.5)
"""How long the pool may take to close; a server that hangs would never let it."""
_ROLLBACK_TIMEOUT: Final = timedelta(seconds=2)
"""How long a server may take to roll back before its connection is closed instead."""
_IDLE_LIFETIME: Final = timedelta(minutes=1)


_JOB_CHANGED_SQLSTATE: Final = "HFJOB"
"""The code of the notice that a trigger sends for a changed job; see `change_notifications.sql`."""
_JOB_EVENT_SQLSTATE: Final = "HFEVT"
"""The code of the notice that another one sends for each event of a job."""
_UNDONE_SQLSTATE: Final = "HFUND"
"""The code of a statement that has undone itself; see `undo_statement` in `submission.sql`."""


_CACHED_STATEMENTS: Final = 100
"""How many prepared statements a connection keeps; behind a pooler, none would be found again."""
_SESSION_SETTINGS: Final = {
    "statement_timeout": "20s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    "client_min_messages": "notice",  # or the notices of changed jobs would not arrive
}
_POOLER_REMEDY: Final = "set HOLDFAST_POOLED=1, if a pooler stands before the database"
_WAIT_REMEDY: Final = (
    "grant EXECUTE on the function pg_logical_emit_message to PUBLIC, as Postgres does by default"
)
_WALL_REMEDY: Final = (
    "switch row-level security on again for every table, and to take BYPASSRLS from the role"
)
# A commit lets go of its locks when it is on disk: 16 callers who lock one row would take turns at
# the disk. This one lets go at once, and the answer waits for the disk together with the others. So
# does the end of whoever has only read: what they saw may be on its way to the disk (ADR 24).
_WAIT_FOR_DISK: Final = """
SELECT CASE
       WHEN pg_is_in_recovery() THEN NULL
       WHEN pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()
            OR current_setting('synchronous_standby_names') <> ''
       THEN pg_logical_emit_message(true, 'holdfast', '') END
"""
COMMIT_WITHOUT_DISK_SQL: Final = "set_config('synchronous_commit', 'off', true)"
"""What a statement for `commit_statement` evaluates, so that it commits as `_COMMIT` does."""
_COMMIT: Final = f"SET LOCAL synchronous_commit = off; COMMIT; {_WAIT_FOR_DISK}"
_REFUSE: Final = f"ROLLBACK; {_WAIT_FOR_DISK}"
"""Ends a transaction whose caller is told what it has seen: a refusal names rows too."""
_READ_WALL: Final = """
SELECT current_user::text AS role,
       to_regclass('public.job') IS NOT NULL AS has_tables,
       coalesce(row_security_active(to_regclass('public.job')), false) AS has_wall,
       (SELECT bool_and(has_function_privilege(oid, 'EXECUTE'))
          FROM pg_proc
         WHERE proname = 'pg_logical_emit_message') AS may_wait_for_disk
"""


class Transaction(Protocol):
    """What a statement needs of a connection: the transaction of its caller, who alone ends it."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement for its effect."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]:
        """Run a statement and return its rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        """Run a statement and return its first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Run a statement and return the first column of its first row."""
        ...


CommitListener = Callable[[], object]
"""Called when a statement is committed that has a row, though perhaps not on disk yet."""


class StatementCommitter(Protocol):
    """What a statement needs that is a transaction of its own."""

    async def commit_statement(
        self, query: str, *args: object, on_commit: CommitListener | None = None
    ) -> Mapping[str, Any] | None:
        """Run and commit a statement, and return its first row; see `Database`."""
        ...


RefusalListener = Callable[[Transaction], Awaitable[object]]
"""Called in a transaction of its own."""


class Database:
    """Opens transactions and ends them; nothing else in the code base commits."""

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        role: str | None = None,
        max_connections: int = 10,
        pooled: bool = False,
        on_job_changes: JobChangeListener | None = None,
        on_transitions: TransitionListener | None = None,
        on_refusal: RefusalListener | None = None,
    ) -> None:
        """Prepare a pool; it connects when a transaction needs it.

        Args:
            url: of the server, with the login of this process.
            application_name: under which the server lists our connections.
            role: which each connection takes on; None keeps that of the login.
            max_connections: of the pool.
            pooled: whether a pooler stands between, which gives each transaction another connection
                of the server: nothing may outlive a transaction then, not even the role.
            on_job_changes: called after a commit that changed jobs.
            on_transitions: called after a commit with the events of jobs in it.
            on_refusal: called when the database has refused a statement; may raise the reason.
        """
        self._on_refusal = on_refusal
        self._on_job_changes = on_job_changes
        self._on_transitions = on_transitions
        self._waiting = 0
        self.causes = CauseLog("database")
        server = parse_postgres_url(url)
        self._role = role
        self._is_wall_seen = role is None
        settings = _SESSION_SETTINGS | ({"role": str(role)} if role else {})  # no subclass: asyncpg
        self._is_pooled = pooled
        self._begin_sql = _begin_with(settings) if pooled else "BEGIN"
        self._acquire_timeout = max(_ACQUIRE_TIMEOUT, server.total_timeout(_ACQUIRE_TIMEOUT))
        connect: Any = partial(_connect, server)  # the stubs want each option of asyncpg by name
        self._pool = asyncpg.create_pool(
            connect=connect,
            min_size=0,  # so that a process starts, and says what is wrong, without a server
            max_size=max_connections,
            command_timeout=_COMMAND_TIMEOUT.total_seconds(),
            max_inactive_connection_lifetime=_IDLE_LIFETIME.total_seconds(),
            init=_register_jsonb_codec,
            reset=_skip_reset,
            server_settings={"application_name": application_name} | ({} if pooled else settings),
            statement_cache_size=0 if pooled else _CACHED_STATEMENTS,
        )

    def read_pool_usage(self) -> PoolUsage:
        """Return how many connections there are, and how many transactions wait for one."""
        size = self._pool.get_size()
        return PoolUsage(
            max_size=self._pool.get_max_size(),
            size=size,
            in_use=size - self._pool.get_idle_size(),
            waiting=self._waiting,
        )

    async def __aenter__(self) -> Self:
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(_CLOSE_TIMEOUT.total_seconds()):
            await self._pool.close()  # terminates what is left when it is cut off

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that commits on a clean exit and rolls back on any other.

        Raises:
            Unavailable: the server cannot be reached, or went away; nothing was committed.
            InDoubt: it went away during the commit.
        """
        committing = False
        changes = _JobChanges()
        try:
            async with self._acquire() as connection:
                with changes.collect_from(connection):
                    async with self._begin(connection):
                        if not self._is_wall_seen:
                            await self._expect_wall(connection)
                        yield ReplayedTransaction(
                            connection,
                            begin_sql=self._begin_sql,
                            on_rollback=changes.clear,
                        )
                        committing = True
        except _UNAVAILABLE_ERRORS as error:
            self.causes.report(error)
            if committing:
                raise InDoubt(
                    "The database", effect="whether this was done is not known"
                ) from error
            raise Unavailable("The database", effect="nothing was done") from error
        except asyncpg.PostgresError as error:
            if error.sqlstate != _UNDONE_SQLSTATE:
                await self._explain_refusal()
            raise
        self._publish(changes)

    async def commit_statement(
        self, query: str, *args: object, on_commit: CommitListener | None = None
    ) -> Mapping[str, Any] | None:
        """Run one statement that is a transaction of its own, and return its first row.

        The server commits it before it answers: its locks never wait for this process, nor for
        the disk if it evaluates `COMMIT_WITHOUT_DISK_SQL`. The answer waits for the disk.

        Args:
            query: the statement.
            args: its parameters.
            on_commit: called before the wait for the disk, if there is a row. So a crash of the
                server may take back what it tells; whoever acts on it reads the database first, in
                a transaction, and that waits for the disk.

        Returns:
            None if there is no row, or the statement has undone itself.

        Raises:
            Unavailable: the server cannot be reached, or ended the statement; nothing was done.
            InDoubt: it went away meanwhile.
        """
        row: Mapping[str, Any] | None = None
        if self._is_pooled or not self._is_wall_seen:
            try:
                async with self.transaction() as tx:
                    row = await tx.fetchrow(query, *args)
            except asyncpg.PostgresError as error:
                if error.sqlstate == _UNDONE_SQLSTATE:
                    return None
                raise
            if row is not None and on_commit is not None:
                on_commit()
            return row
        changes = _JobChanges()
        is_sent = is_committed = False
        try:
            async with self._acquire() as connection:
                with changes.collect_from(connection):
                    is_sent = True
                    row = cast("Mapping[str, Any] | None", await connection.fetchrow(query, *args))
                    is_committed = True
                    if row is not None and on_commit is not None:
                        on_commit()
                    await connection.execute(_WAIT_FOR_DISK)
        except _UNAVAILABLE_ERRORS as error:
            self.causes.report(error)
            if is_committed or (is_sent and not _is_rolled_back(error)):
                raise InDoubt(
                    "The database", effect="whether this was done is not known"
                ) from error
            raise Unavailable("The database", effect="nothing was done") from error
        except asyncpg.PostgresError as error:
            if error.sqlstate == _UNDONE_SQLSTATE:
                return None
            await self._explain_refusal()
            raise
        self._publish(changes)
        return row

    def _publish(self, changes: "_JobChanges") -> None:
        """Tell the listeners what was committed."""
        if changes.versions and self._on_job_changes is not None:
            self._on_job_changes(changes.versions)
        if changes.transitions and self._on_transitions is not None:
            self._on_transitions(changes.transitions)

    async def _explain_refusal(self) -> None:
        """Let the listener say why a statement was refused, if it knows."""
        if self._on_refusal is None:
            return
        with suppress(*_UNAVAILABLE_ERRORS):
            async with self._acquire() as connection, self._begin(connection):
                await self._on_refusal(cast("Transaction", connection))  # its stubs have own rows

    @asynccontextmanager
    async def _begin(self, connection: PoolConnectionProxy) -> AsyncGenerator[None]:
        """Begin a transaction, and end it when all that its caller has seen is on disk.

        Behind a pooler it begins with the settings of each of ours.
        """
        try:
            await connection.execute(self._begin_sql)  # one round trip
            yield
            await connection.execute(_COMMIT)
        except RoleRefused:  # it has seen nothing, and perhaps may not wait for the disk
            await _roll_back(connection)
            raise
        except HoldfastError:
            try:
                await connection.execute(_REFUSE)
            except BaseException:
                await _roll_back(connection)
                raise
            raise
        except BaseException:
            await _roll_back(connection)
            raise

    async def _expect_wall(self, connection: PoolConnectionProxy) -> None:
        """Check once what the role and row-level security really are.

        Raises:
            RoleRefused: whoever stands between has not passed the role on, or the wall is off.
        """
        row = await connection.fetchrow(_READ_WALL)
        assert row is not None  # noqa: S101  # it selects from nothing
        if row["role"] != self._role:
            raise RoleRefused(str(self._role), f"{row['role']} acts in its place", _POOLER_REMEDY)
        if row["has_tables"] and not row["has_wall"]:
            raise RoleRefused(
                str(self._role), "row-level security does not hold for it", _WALL_REMEDY
            )
        if not row["may_wait_for_disk"]:
            raise RoleRefused(
                str(self._role), "it may not execute pg_logical_emit_message", _WAIT_REMEDY
            )
        self._is_wall_seen = row["has_tables"]

    @asynccontextmanager
    async def _acquire(self) -> AsyncGenerator[PoolConnectionProxy]:
        """Lend a connection; whoever waits for one is counted."""
        self._waiting += 1
        try:
            connection = await self._pool.acquire(timeout=self._acquire_timeout.total_seconds())
        finally:
            self._waiting -= 1
        try:
            yield connection
        finally:
            await self._pool.release(connection)


class _JobChanges:
    """What the notices of one transaction say about jobs."""

    def __init__(self) -> None:
        self.versions: dict[UUID, int] = {}
        self.transitions: list[JobTransition] = []

    def clear(self) -> None:
        """Forget what was reported: it was rolled back."""
        self.versions.clear()
        self.transitions.clear()

    @contextmanager
    def collect_from(self, connection: PoolConnectionProxy) -> Generator[None]:
        """Collect the notices that arrive on this connection."""
        connection.add_log_listener(self._collect)
        try:
            yield
        finally:
            connection.remove_log_listener(self._collect)

    def _collect(self, _: object, notice: asyncpg.PostgresLogMessage) -> None:
        if notice.sqlstate == _JOB_CHANGED_SQLSTATE:
            job_id, version = notice.message.split()
            self.versions[UUID(job_id)] = int(version)
        elif notice.sqlstate == _JOB_EVENT_SQLSTATE:
            self.transitions.append(JobTransition.model_validate_json(notice.message))


async def _connect(server: PostgresServer, _: None, **kwargs: Any) -> asyncpg.Connection:
    try:
        return await server.connect(timeout=_ACQUIRE_TIMEOUT, **kwargs)
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as error:
        role = kwargs["server_settings"].get("role")
        raise RoleRefused(role, str(error)) from error


async def _roll_back(connection: PoolConnectionProxy) -> None:
    """End what is open on a connection, also if the caller was cancelled; else close it."""
    if connection.is_closed():
        return
    with anyio.CancelScope(shield=True):
        try:
            async with asyncio.timeout(_ROLLBACK_TIMEOUT.total_seconds()):
                await connection.execute("ROLLBACK")
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection.terminate()  # the server then rolls back, and the pool opens another


def _is_rolled_back(error: BaseException) -> bool:
    """Say whether the server has ended a statement, and lives to commit the next one."""
    severity = getattr(error, "severity_en", None)  # a session ends with FATAL or PANIC
    return isinstance(error, asyncpg.PostgresError) and severity == "ERROR"


def _begin_with(settings: Mapping[str, str]) -> str:
    """Write the statements that begin a transaction with settings, which end with it."""
    return "; ".join(
        ["BEGIN", *(f"SET LOCAL {name} = '{value}'" for name, value in settings.items())]
    )


async def _register_jsonb_codec(connection: asyncpg.Connection) -> None:
    async with connection.transaction():  # so that a pooler asks one connection of the server
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )


async def _skip_reset(_: asyncpg.Connection) -> None:
    # asyncpg would spend a round trip on RESET ALL; nothing here outlives a transaction.
    return
