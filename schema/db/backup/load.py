"""The restore of a backup, in one transaction: all of it, or nothing.

The owner of the tables loads them. Forced row-level security would stop COPY, and the triggers
would refuse or change rows that are facts already, so both are off for that transaction, which has
all tables to itself. Nobody who had a lease when the backup was made has one afterwards.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast

import asyncpg

from schema.db.backup.connection import open_transaction
from schema.db.backup.dump import SEQUENCES, BackupSummary
from schema.db.backup.format import BackupReader, BackupRefused, FrameKind
from schema.db.database import Transaction

OWNERLESS_TABLES: Final = ("deployment", "price_list", "vault_key")
"""Tables of no subject, with what every database has soon; they are replaced."""

# The window begins again: the request may have been sent after the backup.
_LAPSE_REQUESTS: Final = """
UPDATE remote_run
   SET due_at = now(),
       absent_after = now() + $1,
       misses = 0
 WHERE state IN ('posting', 'unknown')
"""
_LAPSE_OTHER_LEASES: Final = """
UPDATE remote_run SET due_at = now() WHERE state = 'bound' AND desired = 'dead';
UPDATE poll_group SET due_at = now(), epoch = epoch + 1 WHERE due_at IS NOT NULL;
UPDATE schedule SET due_at = least(next_at, asked_at) WHERE due_at IS NOT NULL;
UPDATE webhook_target SET leased_until = NULL WHERE leased_until IS NOT NULL;
"""
# A person may have disconnected since, and the refresh tokens have been used.
_DISCONNECT_ACCOUNTS: Final = "DELETE FROM connected_account"

# A backup that was made before these copies existed has none.
_COPY_LABELS: Final = """
INSERT INTO job_label (job_id, name, subject_id, value)
SELECT job.id, label.key, job.subject_id, label.value
  FROM job, jsonb_each_text(job.labels) AS label
ON CONFLICT DO NOTHING
"""

FinishRestore = Callable[[Transaction], Awaitable[None]]
"""Called in the transaction of a restore, when all rows are there."""


async def load_database(
    url: str,
    reader: BackupReader,
    *,
    tables: Sequence[str],
    settle_window: timedelta,
    finish: FinishRestore,
) -> BackupSummary:
    """Load a backup into a database of its revision that has no rows.

    Args:
        tables: all that a backup has, each after those that it refers to.
        settle_window: how long after the restore a listing does not prove that a run is absent.
        finish: what else belongs to the restore.

    Raises:
        BackupRefused: the backup is damaged, the database has rows, a worker is connected to it,
            or the login does not own its tables; nothing was changed.
        CannotConnect: the database cannot be reached, or was lost; nothing was changed.
    """
    async with open_transaction(
        url, application_name="holdfast-restore", reads_only=False
    ) as connection:
        await _open_tables(connection, tables)
        await _expect_no_worker(connection)
        await _expect_no_rows(connection, tables)
        rows = await _load_frames(connection, reader, tables)
        await connection.execute(_LAPSE_REQUESTS, settle_window)
        await connection.execute(_LAPSE_OTHER_LEASES)
        await connection.execute(_DISCONNECT_ACCOUNTS)
        await connection.execute(_COPY_LABELS)
        await finish(cast("Transaction", connection))
        for table in tables:
            await connection.execute(
                f"ALTER TABLE {table} ENABLE TRIGGER USER; "
                f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY; ANALYZE {table}"
            )
    return BackupSummary(reader.header.taken_at, rows)


async def _open_tables(connection: asyncpg.Connection, tables: Sequence[str]) -> None:
    """Take all tables, without their triggers and without row-level security for their owner."""
    await connection.execute("SET LOCAL lock_timeout = '10s'")
    try:
        for table in tables:
            await connection.execute(
                f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; "
                f"ALTER TABLE {table} DISABLE TRIGGER USER"
            )
    except asyncpg.InsufficientPrivilegeError:
        raise BackupRefused(
            "Nothing was changed, because this login does not own the tables. Restore with the "
            "login that runs `holdfast migrate`."
        ) from None
    except asyncpg.LockNotAvailableError:
        raise BackupRefused(
            "Nothing was changed, because another process uses the tables. Stop the service and "
            "the workers, and try again."
        ) from None


async def _expect_no_worker(connection: asyncpg.Connection) -> None:
    """Refuse while a worker is connected: it would label its jobs as another deployment's."""
    workers = await connection.fetchval("SELECT workers_connected()")
    if workers:
        raise BackupRefused(
            "Nothing was changed, because a worker is connected to the database. "
            "Stop the service and the workers, and try again."
        )


async def _expect_no_rows(connection: asyncpg.Connection, tables: Sequence[str]) -> None:
    for table in OWNERLESS_TABLES:
        await connection.execute(f"DELETE FROM {table}")  # noqa: S608  # our names
    filled = [
        table
        for table in tables
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})")  # noqa: S608
    ]
    if filled:
        raise BackupRefused(
            f"Nothing was changed, because the database has rows (in {', '.join(filled)}). Restore "
            f"into an empty database: create one, name it in HOLDFAST_DATABASE_URL, and try again."
        )


async def _load_frames(
    connection: asyncpg.Connection, reader: BackupReader, tables: Sequence[str]
) -> dict[str, int]:
    frames = reader.read_frames()
    rows = dict[str, int]()
    for kind, payload in frames:
        if kind is FrameKind.TABLE:
            shape = json.loads(payload)
            if shape["name"] not in tables:
                raise BackupRefused(
                    f"The backup has a table {shape['name']} that this release does not know, so "
                    f"nothing was changed. Restore it with release {reader.header.version}."
                )
            rows[shape["name"]] = await _load_table(connection, frames, shape)
        elif kind is FrameKind.END:
            await _set_positions(connection, json.loads(payload)["sequences"])
    return rows


async def _load_table(
    connection: asyncpg.Connection,
    frames: Generator[tuple[FrameKind, bytes]],
    shape: Mapping[str, Any],
) -> int:
    expected = 0

    async def read_rows() -> AsyncGenerator[bytes]:
        nonlocal expected
        for kind, payload in frames:
            if kind is FrameKind.TABLE_END:
                expected = json.loads(payload)["rows"]
                return
            yield payload

    status = await connection.copy_to_table(
        shape["name"], source=read_rows(), columns=shape["columns"]
    )
    loaded = int(status.rsplit(maxsplit=1)[-1])
    if loaded != expected:
        raise BackupRefused(
            f"Nothing was changed, because {shape['name']} has {expected} rows in the backup and "
            f"{loaded} were loaded."
        )
    return loaded


async def _set_positions(
    connection: asyncpg.Connection, positions: Mapping[str, tuple[int, bool]]
) -> None:
    for name, (position, is_called) in positions.items():
        if name in SEQUENCES:
            await connection.execute(
                "SELECT setval($1::text::regclass, $2, $3)", name, position, is_called
            )
