"""A migration that ends midway leaves nothing behind, so `holdfast migrate` can be repeated."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from schema.accounts.row_security import DatabaseRole
from schema.db import revisions
from schema.db.database import Database
from tests.support.database.schema_shape import read_shape

ALEMBIC: Final = Path(ScriptDirectory.from_config(revisions.alembic_config()).dir)
SCRIPTS: Final = sorted(
    str(path.relative_to(ALEMBIC))
    for path in ALEMBIC.glob("sql/*/*.sql")
    if path.name != "downgrade.sql"
)
CONFLICT: Final = f"CREATE ROLE {DatabaseRole.TENANT};"
CUT_OFF: Final = "SELECT pg_terminate_backend(pg_backend_pid());"

HALF_DONE: Final = """
from alembic import op

revision = "half_done"
down_revision = "{head}"


def upgrade():
    op.execute("CREATE TABLE half_done (id int)")
    op.execute("SELECT 1 / 0")
"""


def migrations_in(folder: Path, url: str) -> Config:
    """Say where a copy of the migrations is."""
    config = revisions.alembic_config(url)
    config.set_main_option("script_location", str(folder))
    return config


async def error_of(config: Config) -> str:
    """Upgrade, and return what that ended with."""
    try:
        await asyncio.to_thread(command.upgrade, config, "head")
    except Exception as error:  # noqa: BLE001  # the driver's, SQLAlchemy's or Alembic's
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("end", "reason"),
    [(CONFLICT, "already exists"), (CUT_OFF, "terminating connection")],
    ids=["conflict", "cut_off"],
)
@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_migration_that_ends_midway_is_repeated(
    database_url: str, tmp_path: Path, script: str, end: str, reason: str
) -> None:
    """The first start of a deployment is where a database is slow, shared or misconfigured."""
    whole = await read_shape(database_url)
    await asyncio.to_thread(command.downgrade, revisions.alembic_config(database_url), "base")
    broken = shutil.copytree(ALEMBIC, tmp_path / "alembic")
    path = broken / script
    path.write_text(path.read_text(encoding="utf-8") + end, encoding="utf-8")

    error = await error_of(migrations_in(broken, database_url))
    left = await read_shape(database_url)
    await asyncio.to_thread(revisions.upgrade_to_revision, database_url)

    assert reason in error
    assert left == set()
    assert await read_shape(database_url) == whole


async def test_a_revision_that_fails_leaves_those_before_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """Each revision is a transaction of its own: the next upgrade begins with the failed one."""
    await asyncio.to_thread(command.downgrade, revisions.alembic_config(database_url), "base")
    (tmp_path / "half_done.py").write_text(HALF_DONE.format(head=revisions.head_revision()))
    config = migrations_in(ALEMBIC, database_url)
    config.set_main_option("version_locations", f"{ALEMBIC / 'versions'}{os.pathsep}{tmp_path}")
    config.set_main_option("path_separator", "os")

    error = await error_of(config)
    async with database.transaction() as tx:
        revision = await revisions.read_current_revision(tx)
        half_done = await tx.fetchval("SELECT to_regclass('half_done')")
    await asyncio.to_thread(revisions.upgrade_to_revision, database_url)

    assert "division by zero" in error
    assert (revision, half_done) == (revisions.head_revision(), None)
