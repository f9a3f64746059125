"""Revisions of the database: which one it is at, which releases it serves, and the upgrade.

A release is written for the last revision that it has. Revisions expand first and contract later,
so a database is often newer than a release that still runs on it. Each revision declares
`compatible_from`, the oldest revision whose release does. `migrate` writes it beside the revision,
in the same transaction, and a release that has that revision may go on (ADR 23).

    revision 0001 ──▶ 0002 expands ──▶ 0003 contracts
    compatible_from   0001             0002            ◀── a release of 0001 is too old here
"""

import ast
import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import structlog

from schema.common.errors import HoldfastError, Unavailable
from schema.common.observability.causes import describe_cause
from schema.common.urls.postgres import parse_postgres_url
from schema.db.database import Transaction
from schema.db.failures import explain_database_failure
from schema.db.privileges import check_privileges

if TYPE_CHECKING:  # no cycle: whoever only compares revisions does not wait for Alembic
    from alembic.config import Config

_CAN_READ_VERSION: Final = "SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')"
# A statement that needs no column: a database from before it is told to migrate, and no bug.
_READ_VERSION: Final = """
SELECT version_num AS current, to_jsonb(version) ->> 'compatible_from' AS compatible_from
  FROM alembic_version AS version
"""
CONNECT_ERRORS: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
_LOCK_STATES: Final = frozenset(
    error.sqlstate for error in (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
)
_LOCK_TRIES: Final = 60
"""About a minute."""
_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_GLANCE_TIMEOUT: Final = timedelta(seconds=2)
_SCHEMA: Final = Path(__file__).resolve().parent.parent

log = structlog.stdlib.get_logger()


def alembic_config(url: str | None = None) -> "Config":
    """Configure Alembic for the database of `url`."""
    from alembic.config import Config  # noqa: PLC0415  # takes a fifth of a start; see above

    config = Config()
    config.set_main_option("script_location", str(_migrations_folder()))
    config.attributes["url"] = url
    return config


def _migrations_folder() -> Path:
    """Return the folder of the migrations: beside `schema` in a clone, inside of it in a wheel."""
    packaged = _SCHEMA / "migrations"
    return packaged if packaged.is_dir() else _SCHEMA.parent / "alembic"


class CannotConnect(Unavailable):
    """There is no connection to the database, or it was lost."""

    def __init__(self, cause: BaseException) -> None:
        self.retry_after = timedelta(seconds=2)
        remedy = explain_database_failure(cause) or "Start it, or mend HOLDFAST_DATABASE_URL."
        HoldfastError.__init__(
            self, f"The database cannot be reached ({describe_cause(cause)}). {remedy}"
        )

    @property
    def code(self) -> str:
        """The code of any other outage."""
        return Unavailable.__name__


class MigrationFailed(HoldfastError):
    """The database refused a statement of a revision."""

    def __init__(self, cause: BaseException | None) -> None:
        super().__init__(
            f"The database refused a statement ({type(cause).__name__}: {cause}). Nothing of that "
            f"revision was kept. Mend the cause, then run `holdfast migrate` again."
        )


class WrongRevision(Unavailable):
    """The database is not yet at the revision that this release needs."""

    def __init__(self, sentence: str) -> None:
        self.retry_after = timedelta(seconds=30)
        HoldfastError.__init__(self, sentence)

    @property
    def code(self) -> str:
        """To a client it is the same as any other outage."""
        return Unavailable.__name__


class ReleaseTooOld(WrongRevision):
    """A later revision has taken away what this release needs."""


@cache  # the migrations do not change while a process runs
def head_revision() -> str:
    """Return the revision this code is written for."""
    return find_head(_migrations_folder())


@cache
def known_revisions() -> frozenset[str]:
    """Return the revisions that this code has: that one, and all before it."""
    return frozenset(revision for revision, _ in _read_revisions(_migrations_folder()))


def find_head(migrations: Path) -> str:
    """Return the revision of a folder of migrations that no other one follows."""
    revisions = _read_revisions(migrations)
    (head,) = {revision for revision, _ in revisions} - {before for _, before in revisions}
    return head


def _read_revisions(migrations: Path) -> list[tuple[str, str | None]]:
    """Return each revision and the one before it, without Alembic and without running them."""
    revisions: list[tuple[str, str | None]] = []
    for path in (migrations / "versions").glob("*.py"):
        values: dict[str, Any] = {}
        for statement in ast.parse(path.read_bytes()).body:
            match statement:
                case ast.Assign(
                    [ast.Name("revision" | "down_revision" as name)], ast.expr() as value
                ) | ast.AnnAssign(
                    ast.Name("revision" | "down_revision" as name), value=ast.expr() as value
                ):
                    values[name] = ast.literal_eval(value)
                case _:
                    pass
        revisions.append((values["revision"], values["down_revision"]))
    return revisions


def is_known_revision(revision: str) -> bool:
    """Tell whether this code has the migrations of a revision."""
    return revision in known_revisions()


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """The revision of a database, beside those of this release."""

    current: str | None
    """None: there is none, or the role may not read it."""
    compatible_from: str | None
    """The oldest revision whose release runs on the database; None if it does not say."""
    expected: str

    @property
    def is_newer(self) -> bool:
        """Whether the database was migrated by a later release."""
        return self.current is not None and self.current not in known_revisions()

    @property
    def is_usable(self) -> bool:
        """Whether this release runs on the database."""
        if self.is_newer:
            return self.compatible_from in known_revisions()
        return self.current == self.expected

    def find_problem(self) -> WrongRevision | None:
        """Return why this release does not run on the database; None if it does."""
        if self.is_usable:
            return None
        if self.is_newer:
            oldest = self.compatible_from or self.current
            return ReleaseTooOld(
                f"This release is older than the database: it is of revision {self.expected}, and "
                f"the database is at {self.current}, which takes releases from {oldest} on. "
                f"Nothing was done. Its operator has to start a newer release."
            )
        return WrongRevision(
            f"The database is at revision {self.current or 'none'} and this release needs "
            f"{self.expected}, so nothing was done. Its operator has to run `holdfast migrate`."
        )


async def read_revision_status(tx: Transaction) -> RevisionStatus:
    """Compare the revision of the database with those of this release."""
    can_read = await tx.fetchval(_CAN_READ_VERSION)
    row = await tx.fetchrow(_READ_VERSION) if can_read else None
    if row is None:
        return RevisionStatus(None, None, head_revision())
    return RevisionStatus(row["current"], row["compatible_from"], head_revision())


async def require_usable_revision(tx: Transaction) -> str:
    """Return the revision of the database.

    Raises:
        WrongRevision: this release does not run on it.
    """
    status = await read_revision_status(tx)
    if problem := status.find_problem():
        raise problem
    return str(status.current)


async def read_current_revision(tx: Transaction) -> str | None:
    """Return the revision of the database; None if it has none, or we may not read it."""
    return (await read_revision_status(tx)).current


def upgrade_to_revision(url: str, revision: str = "head") -> str:
    """Upgrade the database to a revision, and return the one that it is at.

    Blocks, and runs an event loop of its own. Each revision is one transaction: after an error, or
    when this process is killed, nothing is left of the revision at hand, and the next upgrade
    begins with it. A database that a later release has migrated is left as it is.

    Raises:
        ReleaseTooOld: a later release has migrated the database, and this one does not run on it.
        MigrationFailed: with what the database says.
        MissingPrivileges: the login may not do what the revisions do; nothing was changed.
        CannotConnect: the database cannot be reached; nothing was changed since.
    """
    from alembic.util import CommandError  # noqa: PLC0415  # as above
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415  # as above

    try:
        if (later_revision := asyncio.run(_prepare_upgrade(url))) is not None:
            return later_revision
        try:
            _upgrade_when_unlocked(url, revision)
        except CommandError:  # it does not know the revision that a later release has just made
            if (later_revision := asyncio.run(_prepare_upgrade(url))) is None:
                raise
            return later_revision
        return head_revision() if revision == "head" else revision
    except CONNECT_ERRORS as error:
        raise CannotConnect(error) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationFailed(error) from error
    except DBAPIError as error:
        raise MigrationFailed(error.orig) from error


def _upgrade_when_unlocked(url: str, revision: str) -> None:
    """Upgrade; where a running process holds a lock that a revision needs, try again for a while.

    A revision waits only half a second for a lock: whoever wants the table after it waits as long,
    and Postgres looks for a deadlock, and ends a transaction of a caller, only after a second.
    """
    from alembic import command  # noqa: PLC0415  # as above
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415  # as above

    for _ in range(_LOCK_TRIES - 1):
        try:
            return command.upgrade(alembic_config(url), revision)
        except (asyncpg.PostgresError, DBAPIError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if getattr(cause, "sqlstate", None) not in _LOCK_STATES:
                raise
            log.info("migration.retried", reason="a process at work has a lock that it needs")
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311  # keeps no secret
    return command.upgrade(alembic_config(url), revision)


async def is_up_to_date(url: str) -> bool:
    """Tell whether an upgrade of the database would change nothing; False if nobody can say."""
    try:
        async with (
            asyncio.timeout(2 * _GLANCE_TIMEOUT.total_seconds()),  # a server that hangs, too
            _connect(url, _GLANCE_TIMEOUT) as connection,
        ):
            status = await read_revision_status(cast("Transaction", connection))
    except (
        *CONNECT_ERRORS,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        HoldfastError,
    ):
        return False  # the upgrade says what is wrong
    return status.current == status.expected


@asynccontextmanager
async def _connect(
    url: str, timeout: timedelta = _CONNECT_TIMEOUT
) -> AsyncGenerator[asyncpg.Connection]:
    connection = await parse_postgres_url(url).connect(
        timeout=timeout,
        server_settings={"application_name": "holdfast-migrate"},
        statement_cache_size=0,
    )
    try:
        yield connection
    except asyncio.CancelledError:
        connection.terminate()  # a server that hangs would not let it close
        raise
    finally:
        await connection.close()


async def _prepare_upgrade(url: str) -> str | None:
    """Look whether this login may upgrade; return a later revision, which needs no upgrade."""
    async with _connect(url) as connection:
        status = await read_revision_status(cast("Transaction", connection))
        if status.is_newer:
            if problem := status.find_problem():
                raise problem
            log.info("migration.unneeded", found=status.current, expected=status.expected)
            return status.current
        if status.current != status.expected:
            await check_privileges(connection, is_migrated=status.current is not None)
    return None
