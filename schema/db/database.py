"""One pool for a process, one transaction for a unit of work.

Statements are SQL and go to the driver (ADR 1): each move is one round trip whose text is the
rule it keeps. The tables are declared with SQLModel, and rows are read into those records.
"""

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, Self, cast
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from schema.common.errors import InDoubt, RoleRefused, Unavailable
from schema.common.ids import JobChangeListener

_UNAVAILABLE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.exceptions.InvalidAuthorizationSpecificationError,  # class 28
    asyncpg.exceptions.TransactionRollbackError,  # class 40
    asyncpg.exceptions.InsufficientResourcesError,  # class 53
    asyncpg.exceptions.OperatorInterventionError,  # class 57: also "the database is starting up"
    asyncpg.exceptions.PostgresSystemError,  # class 58
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a replica, in the middle of a failover
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What the driver raises when the server, and not the statement, is at fault."""


_JOB_CHANGED_SQLSTATE: Final = "HFJOB"
"""The code of the notice by which a job says that it was moved; see `change_notifications.sql`."""


class Transaction(Protocol):
    """What a move needs of a connection: the caller's transaction, which the move never ends."""

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


class Database:
    """Hands out transactions; the only thing in the code base that commits."""

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        role: str | None = None,
        max_connections: int = 10,
        on_job_changes: JobChangeListener | None = None,
    ) -> None:
        """Name the server, who we are to it, the role we take on there, and who hears of moves."""
        self._on_job_changes = on_job_changes
        self._pool = asyncpg.create_pool(
            url,
            connect=_connect,
            min_size=0,  # so that a process starts, and says what is wrong, without a server
            max_size=max_connections,
            command_timeout=30,
            max_inactive_connection_lifetime=60,
            init=_register_jsonb_codec,
            reset=_skip_reset,
            server_settings={
                "application_name": application_name,
                "statement_timeout": "20s",
                "lock_timeout": "5s",
                "idle_in_transaction_session_timeout": "30s",
                "client_min_messages": "notice",  # or moves would not be heard of
                **({"role": str(role)} if role else {}),  # no subclass, says asyncpg
            },
        )

    async def __aenter__(self) -> Self:
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that commits on a clean exit and rolls back on any other.

        Raises:
            Unavailable: the server cannot be reached, or went away; nothing was committed.
            InDoubt: it went away while it was told to commit.
        """
        committing = False
        moved: dict[UUID, int] = {}
        try:
            async with self._pool.acquire(timeout=5) as connection:
                with _collect_job_versions(connection, moved):
                    async with connection.transaction():
                        # The proxy has the protocol's methods; its stubs type rows as their own.
                        yield cast("Transaction", connection)
                        committing = True
        except _UNAVAILABLE_ERRORS as error:
            if committing:
                raise InDoubt(
                    "The database", effect="whether this was done is not known"
                ) from error
            raise Unavailable("The database", effect="nothing was done") from error
        if moved and self._on_job_changes is not None:
            self._on_job_changes(moved)


@contextmanager
def _collect_job_versions(
    connection: PoolConnectionProxy, versions: dict[UUID, int]
) -> Generator[None]:
    """Note what the jobs say on this connection of having been moved."""

    def hear(_: object, said: asyncpg.PostgresLogMessage) -> None:
        if said.sqlstate == _JOB_CHANGED_SQLSTATE:
            job_id, version = said.message.split()
            versions[UUID(job_id)] = int(version)

    connection.add_log_listener(hear)
    try:
        yield
    finally:
        connection.remove_log_listener(hear)


async def _connect(*args: Any, **kwargs: Any) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(*args, **kwargs)
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as error:
        role = kwargs["server_settings"].get("role")
        raise RoleRefused(role, str(error)) from error


async def _register_jsonb_codec(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _skip_reset(_: asyncpg.Connection) -> None:
    # asyncpg would spend a round trip on RESET ALL; nothing here outlives a transaction.
    return
