"""A backup of the database: all rows of one moment, read as the role of the workers.

Row-level security is forced on every table, so a login sees no rows unless it takes on a role. The
role of the workers sees those of all subjects, and the policies are looked at first: a backup that
lacks rows is worse than none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Final, cast

import asyncpg

from schema.common.errors import Conflict
from schema.common.version import package_version
from schema.db.backup import format as backup_format
from schema.db.backup.connection import open_transaction
from schema.db.backup.format import BackupHeader, BackupRefused, BackupWriter, FrameKind, KeySource
from schema.db.database import Transaction
from schema.db.revisions import head_revision, read_current_revision

SEQUENCES: Final = ("audit_entry_id_seq", "usage_history_id_seq")
"""The sequences of the database; their positions are part of a backup."""

_ROLE: Final = "holdfast_worker"
_READ_STATE: Final = """
SELECT transaction_timestamp() AS taken_at, current_setting('server_version') AS server_version
"""
# A policy that lets the role see only some rows would leave the others out without a word.
_FIND_HIDDEN_TABLES: Final = """
SELECT named.name
  FROM unnest($1::text[]) AS named (name)
  JOIN pg_class AS class ON class.oid = to_regclass('public.' || named.name)
 WHERE class.relrowsecurity
   AND (NOT EXISTS (
            SELECT FROM pg_policies
             WHERE schemaname = 'public' AND tablename = named.name AND permissive = 'PERMISSIVE'
               AND $2 = ANY(roles) AND cmd IN ('ALL', 'SELECT') AND qual = 'true')
        OR EXISTS (
            SELECT FROM pg_policies
             WHERE schemaname = 'public' AND tablename = named.name AND permissive = 'RESTRICTIVE'))
"""
_LIST_COLUMNS: Final = """
SELECT attname::text
  FROM pg_attribute
 WHERE attrelid = to_regclass('public.' || $1) AND attnum > 0
   AND NOT attisdropped AND attgenerated = ''
 ORDER BY attnum
"""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What is in a backup."""

    taken_at: datetime
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows by table."""


async def dump_database(
    url: str, sink: BinaryIO, *, tables: Sequence[str], key_mark: str, find_key: KeySource
) -> BackupSummary:
    """Write all rows of some tables, as they are at one moment, to an encrypted file.

    Args:
        tables: by name, each after those that it refers to.
        key_mark: of the key that encrypts.

    Raises:
        BackupRefused: this login cannot read all rows.
        Conflict: the database is of another release.
        CannotConnect: the database cannot be reached, or was lost.
    """
    async with open_transaction(
        url, application_name="holdfast-backup", reads_only=True
    ) as connection:
        await _take_on_role(connection)
        state = await connection.fetchrow(_READ_STATE)
        assert state is not None  # noqa: S101  # it selects from nothing
        revision = await read_current_revision(cast("Transaction", connection))
        if revision is None or revision != head_revision():
            raise Conflict(
                f"The database is at revision {revision}, and this release backs up "
                f"revision {head_revision()}. Use the release that the database belongs to, or run "
                f"`holdfast migrate` first."
            )
        if hidden := await connection.fetch(_FIND_HIDDEN_TABLES, tables, _ROLE):
            names = ", ".join(row["name"] for row in hidden)
            raise BackupRefused(
                f"No backup was made, because row-level security hides rows of {names} from the "
                f"role {_ROLE}. Restore the policies of the release."
            )
        header = BackupHeader(
            format=backup_format.FORMAT,
            revision=revision,
            version=package_version(),
            postgres=state["server_version"],
            taken_at=state["taken_at"],
            key_mark=key_mark,
            salt=backup_format.make_salt(),
        )
        writer = BackupWriter(sink, header, find_key)
        rows = {table: await _dump_table(connection, writer, table) for table in tables}
        positions = {name: await _read_position(connection, name) for name in SEQUENCES}
        _write_json(writer, FrameKind.END, {"tables": len(rows), "sequences": positions})
        writer.close()
    return BackupSummary(header.taken_at, rows)


async def _take_on_role(connection: asyncpg.Connection) -> None:
    login = await connection.fetchval("SELECT quote_ident(current_user)")
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {_ROLE}")
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError):
        raise BackupRefused(
            f"No backup was made, because {login} may not take on the role {_ROLE}, which alone "
            f"sees the rows of all subjects. Run `GRANT {_ROLE} TO {login};` as an administrator."
        ) from None
    await connection.execute(f"SET LOCAL ROLE {_ROLE}")


async def _dump_table(connection: asyncpg.Connection, writer: BackupWriter, table: str) -> int:
    columns = [row["attname"] for row in await connection.fetch(_LIST_COLUMNS, table)]
    _write_json(writer, FrameKind.TABLE, {"name": table, "columns": columns})

    async def write_rows(rows: bytes) -> None:
        writer.write(FrameKind.ROWS, rows)

    status = await connection.copy_from_table(table, columns=columns, output=write_rows)
    count = int(status.rsplit(maxsplit=1)[-1])
    _write_json(writer, FrameKind.TABLE_END, {"rows": count})
    return count


async def _read_position(connection: asyncpg.Connection, sequence: str) -> tuple[int, bool]:
    row = await connection.fetchrow(f"SELECT last_value, is_called FROM {sequence}")  # noqa: S608
    assert row is not None  # noqa: S101  # a sequence has one row
    return row["last_value"], row["is_called"]


def _write_json(writer: BackupWriter, kind: FrameKind, payload: Mapping[str, object]) -> None:
    writer.write(kind, json.dumps(payload).encode())
