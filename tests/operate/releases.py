"""Two later releases than this one, as source trees that run with the same environment.

this release     next release                   the one after it
revision 0001    expands: 0002                  contracts: 0003
                 adds columns, a table and a    takes the function away that the service
                 function, and uses it          of this release needs
"""

import shutil
from pathlib import Path
from typing import Final

from tests.support.paths import REPOSITORY

_PACKAGES: Final = ("schema", "service", "workers", "alembic")
_REVISION: Final = '''"""A revision of a later release."""

from alembic import op

revision = "{revision}"
down_revision = "{down}"
branch_labels = None
depends_on = None
compatible_from = "{oldest}"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '500ms'")
    for statement in {statements}:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError
'''
_EXPANSION: Final = (
    "ALTER TABLE job ADD COLUMN of_next_release integer",
    "ALTER TABLE remote_run ADD COLUMN of_next_release integer",
    "ALTER TABLE workspace ADD COLUMN of_next_release integer",
    "ALTER TABLE subject ADD COLUMN of_next_release integer",
    "CREATE TABLE of_next_release (id integer PRIMARY KEY)",
    "CREATE FUNCTION connected_workers() RETURNS bigint LANGUAGE sql RETURN workers_connected()",
)
_CONTRACTION: Final = (
    "CREATE OR REPLACE FUNCTION connected_workers() RETURNS bigint LANGUAGE sql RETURN 1",
    "DROP FUNCTION workers_connected()",
)


def make_next_release(folder: Path) -> Path:
    """Write a release with one more revision, which adds something and uses it."""
    for package in _PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    _add_revision(folder, "0002", _EXPANSION, oldest="0001")
    health = folder / "service/http/health.py"
    text = health.read_text(encoding="utf-8")
    assert "workers_connected()" in text
    health.write_text(text.replace("workers_connected()", "connected_workers()"), encoding="utf-8")
    return folder


def make_contracting_release(folder: Path, next_release: Path) -> Path:
    """Write the release after the next one, which takes away what only this one uses."""
    shutil.copytree(next_release, folder)
    _add_revision(folder, "0003", _CONTRACTION, oldest="0002")
    return folder


def _add_revision(folder: Path, revision: str, statements: tuple[str, ...], *, oldest: str) -> None:
    versions = folder / "alembic/versions"
    text = _REVISION.format(
        revision=revision, down=f"{int(revision) - 1:04}", oldest=oldest, statements=statements
    )
    (versions / f"later_{revision}.py").write_text(text, encoding="utf-8")
