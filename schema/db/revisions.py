"""Revisions of the database: which one it is at, which one this code needs, and the upgrade."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from schema.common.errors import Unavailable
from schema.db.database import Transaction

_CAN_READ_VERSION: Final = "SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')"
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


@cache  # the migrations do not change while a process runs
def head_revision() -> str:
    """Return the revision this code is written for."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None  # noqa: S101  # there is a first migration
    return revision


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

    Raises:
        Unavailable: the database cannot be reached.
    """
    try:
        command.upgrade(alembic_config(url), revision)
    except (OSError, asyncpg.PostgresConnectionError) as error:
        raise Unavailable("The database") from error
