"""Revisions of the database: which one it is at, which one this code needs, and the upgrade."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final, cast

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from schema.common.errors import HoldfastError, Unavailable
from schema.common.observability.causes import describe_cause
from schema.common.urls.postgres import parse_postgres_url
from schema.db.database import Transaction
from schema.db.failures import explain_database_failure
from schema.db.privileges import check_privileges

_CAN_READ_VERSION: Final = "SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')"
CONNECT_ERRORS: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_SCHEMA: Final = Path(__file__).resolve().parent.parent


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


@cache  # the migrations do not change while a process runs
def head_revision() -> str:
    """Return the revision this code is written for."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None  # noqa: S101  # there is a first migration
    return revision


def is_known_revision(revision: str) -> bool:
    """Tell whether this code has the migrations of a revision."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return any(script.revision == revision for script in scripts.walk_revisions())


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """The revision of a database, and the one that this code needs."""

    current: str | None
    """None: there is none, or the role may not read it."""
    expected: str

    @property
    def is_expected(self) -> bool:
        """Whether this code may use the database."""
        return self.current == self.expected


async def read_revision_status(tx: Transaction) -> RevisionStatus:
    """Compare the revision of the database with the one that this code needs."""
    return RevisionStatus(await read_current_revision(tx), head_revision())


async def read_current_revision(tx: Transaction) -> str | None:
    """Return the revision of the database; None if it has none, or we may not read it."""
    if not await tx.fetchval(_CAN_READ_VERSION):
        return None
    revision: str | None = await tx.fetchval("SELECT version_num FROM alembic_version")
    return revision


def upgrade_to_revision(url: str, revision: str = "head") -> None:
    """Upgrade the database to a revision. Blocks, and runs an event loop of its own.

    Each revision is one transaction: after an error, or when this process is killed, nothing is
    left of the revision at hand, and the next upgrade begins with it.

    Raises:
        MigrationFailed: with what the database says.
        MissingPrivileges: the login may not do what the revisions do; nothing was changed.
        CannotConnect: the database cannot be reached; nothing was changed since.
    """
    try:
        asyncio.run(_check_privileges(url))
        command.upgrade(alembic_config(url), revision)
    except CONNECT_ERRORS as error:
        raise CannotConnect(error) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationFailed(error) from error
    except DBAPIError as error:
        raise MigrationFailed(error.orig) from error


async def _check_privileges(url: str) -> None:
    connection = await parse_postgres_url(url).connect(
        timeout=_CONNECT_TIMEOUT,
        server_settings={"application_name": "holdfast-migrate"},
        statement_cache_size=0,
    )
    try:
        revision = await read_current_revision(cast("Transaction", connection))
        if revision != head_revision():
            await check_privileges(connection, is_migrated=revision is not None)
    finally:
        await connection.close()
