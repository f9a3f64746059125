"""Revisions of the database: which one it is at, which releases it serves, and the upgrade.

A release is written for the last revision that it has. Revisions expand first and contract later,
so a database is often newer than a release that still runs on it. Each revision declares
`compatible_from`, the oldest revision whose release does. `migrate` writes it beside the revision,
in the same transaction, and a release that has that revision may go on (ADR 23).

    revision 0001 ──▶ 0002 expands ──▶ 0003 contracts
    compatible_from   0001             0002            ◀── a release of 0001 is too old here
"""

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final, cast

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from schema.common.errors import HoldfastError, Unavailable
from schema.common.observability.causes import describe_cause
from schema.common.urls.postgres import parse_postgres_url
from schema.db.database import Transaction
from schema.db.failures import explain_database_failure
from schema.db.privileges import check_privileges

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
_SCHEMA: Final = Path(__file__).resolve().parent.parent

log = structlog.stdlib.get_logger()


def alembic_config(url: str | None = None) -> Config:
    """Configure Alembic; migrations are beside `schema` in a clone, and inside of it in a wheel."""
    packaged = _SCHEMA / "migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(packaged if packaged.is_dir() else _SCHEMA.parent / "alembic")
    )
    config.attributes["url"] = url
    return config


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
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None  # noqa: S101  # there is a first migration
    return revision


@cache
def known_revisions() -> frozenset[str]:
    """Return the revisions that this code has: that one, and all before it."""
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return frozenset(script.revision for script in scripts)


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


async def _prepare_upgrade(url: str) -> str | None:
    """Look whether this login may upgrade; return a later revision, which needs no upgrade."""
    connection = await parse_postgres_url(url).connect(
        timeout=_CONNECT_TIMEOUT,
        server_settings={"application_name": "holdfast-migrate"},
        statement_cache_size=0,
    )
    try:
        status = await read_revision_status(cast("Transaction", connection))
        if status.is_newer:
            if problem := status.find_problem():
                raise problem
            log.info("migration.unneeded", found=status.current, expected=status.expected)
            return status.current
        if status.current != status.expected:
            await check_privileges(connection, is_migrated=status.current is not None)
    finally:
        await connection.close()
    return None
