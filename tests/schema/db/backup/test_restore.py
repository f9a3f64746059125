"""A restored database has every row of the backup, and a bad backup changes nothing."""

import asyncio
import io
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest
from anyio import to_thread

from schema.accounts.restored_subjects import mark_restored
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Vault
from schema.common.errors import Conflict
from schema.db import revisions
from schema.db.backup.dump import SEQUENCES, BackupSummary, dump_database
from schema.db.backup.format import BackupReader, BackupRefused
from schema.db.backup.load import load_database
from schema.db.database import Database
from schema.tables import METADATA
from service.cli.backups.backup import list_backup_tables
from tests.schema.accounts.test_vault import make_key
from tests.support.database.row_security import create_login, tenant_transaction
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID, EVE_ID

SETTLE: Final = timedelta(minutes=10)
LEASES: Final = {
    "remote_run": ("due_at", "absent_after", "misses"),
    "poll_group": ("due_at", "epoch"),
    "schedule": ("due_at",),
}
"""What a restore changes: nobody holds a lease of the time of the backup."""

READ_POSITIONS: Final = """
SELECT format('%s: %s', sequencename, last_value)
  FROM pg_sequences
 WHERE schemaname = 'public'
 ORDER BY sequencename
"""

SWITCHED_OFF: Final = """
SELECT relname::text FROM pg_class
 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
   AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT tgname::text FROM pg_trigger WHERE tgenabled <> 'O'
"""


async def dump(url: str, vault: Vault, sink: io.BytesIO | None = None) -> bytes:
    sink = sink or io.BytesIO()
    await dump_database(
        url,
        sink,
        tables=list_backup_tables(),
        key_mark=vault.key_marks[0],
        find_key=vault.find_backup_key,
    )
    return sink.getvalue()


async def load(url: str, vault: Vault, backup: bytes) -> BackupSummary:
    reader = BackupReader(io.BytesIO(backup), vault.find_backup_key)
    return await load_database(
        url,
        reader,
        tables=list_backup_tables(),
        settle_window=SETTLE,
        finish=partial(mark_restored, backup_at=reader.header.taken_at),
    )


async def read_rows(url: str) -> dict[str, list[str]]:
    """Return every row as text, without leases, and without what a restore writes itself."""
    connection: asyncpg.Connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SET ROLE {DatabaseRole.WORKER}")
        rows = dict[str, list[str]]()
        for table in list_backup_tables():
            omitted = "".join(f" - '{column}'" for column in LEASES.get(table, ()))
            records = await connection.fetch(
                f"SELECT (to_jsonb(it){omitted})::text AS row FROM {table} AS it ORDER BY 1"  # noqa: S608
            )
            rows[table] = [record["row"] for record in records]
        del rows["restored_subject"]
        return rows
    finally:
        await connection.close()


async def query(url: str, statement: str, *arguments: Any) -> list[Any]:
    connection: asyncpg.Connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


@asynccontextmanager
async def create_target(admin_url: str, *, migrated: bool = True) -> AsyncGenerator[str]:
    """Make a database of a login that is no superuser, as managed servers give."""
    async with create_login(admin_url) as url:
        name = urlsplit(url).username
        for role in DatabaseRole:
            await query(admin_url, f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE")
        if migrated:
            await to_thread.run_sync(revisions.upgrade_to_revision, url)
        yield url


async def test_every_row_comes_back_to_a_login_without_rights(
    postgres_url: str, database_url: str, vault: Vault, row_in_every_table: None
) -> None:
    """Row by row, and from the restored database once more; walls and triggers stand again."""
    backup = await dump(database_url, vault)

    async with create_target(postgres_url) as target:
        summary = await load(target, vault, backup)

        rows = await read_rows(database_url)
        assert [table for table, lines in rows.items() if not lines] == []
        assert {table: summary.rows[table] for table in rows} == {
            table: len(lines) for table, lines in rows.items()
        }
        rows["connected_account"] = []  # its person may have disconnected it since
        assert await read_rows(target) == rows
        assert await query(target, SWITCHED_OFF) == []
        again = await dump(target, vault)
        async with create_target(postgres_url) as second:
            await load(second, vault, again)
            assert await read_rows(second) == rows
            async with tenant_transaction(second, EVE_ID) as tx:
                assert await tx.fetchval("SELECT count(*) FROM job") == 0
            async with tenant_transaction(second, ADA_ID) as tx:
                assert await tx.fetchval("SELECT count(*) FROM job") == 2
                await tx.execute(
                    "INSERT INTO audit_entry (subject_id, action) VALUES ($1, 'credential_lent')",
                    ADA_ID,
                )


async def test_labels_can_be_looked_up_though_the_backup_has_no_copies_of_them(
    postgres_url: str, database_url: str, vault: Vault, make_job: JobFactory
) -> None:
    """It was made by a release that had none; the trigger that copies them is off in a restore."""
    await make_job(labels={"run": "7"})
    await query(database_url, "DELETE FROM job_label")

    async with create_target(postgres_url) as target:
        await load(target, vault, await dump(database_url, vault))
        async with tenant_transaction(target, ADA_ID) as tx:
            labels = await tx.fetchval("SELECT name || '=' || value FROM job_label")

    assert labels == "run=7"


async def test_no_id_is_made_a_second_time_after_a_restore(
    postgres_url: str, database_url: str, vault: Vault, row_in_every_table: None
) -> None:
    """Every sequence goes on where it was: a deletion of jobs could not add to the usage else."""
    backup = await dump(database_url, vault)
    positions = await query(database_url, READ_POSITIONS)

    async with create_target(postgres_url) as target:
        await load(target, vault, backup)

        assert await query(target, READ_POSITIONS) == positions
    assert len(positions) == len(SEQUENCES)


def test_every_table_is_part_of_a_backup() -> None:
    """Two are worth nothing a minute later: counts of calls, and heartbeats."""
    names = set(METADATA.tables)

    assert names - set(list_backup_tables()) == {"call_window", "worker_heartbeat"}


async def test_nobody_holds_a_lease_after_a_restore(
    postgres_url: str,
    database_url: str,
    vault: Vault,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
) -> None:
    """The workers of the backup's time are gone; a create request in flight is in doubt again."""
    await make_job()
    await claim_jobs(lease=timedelta(hours=5))
    backup = await dump(database_url, vault)

    async with create_target(postgres_url) as target:
        await load(target, vault, backup)

        async with (
            Database(target, application_name="tests", role=DatabaseRole.WORKER) as database,
            database.transaction() as tx,
        ):
            run = await tx.fetchrow(
                "SELECT due_at <= now() AS lapsed, absent_after - now() AS left FROM remote_run"
            )
            restored = await tx.fetchrow("SELECT * FROM restored_subject")
    assert run is not None
    assert run["lapsed"]
    assert timedelta(minutes=9) < run["left"] <= SETTLE
    assert restored is not None
    assert restored["reconciled_at"] is None


@pytest.mark.parametrize("part", [0, 0.001, 0.01, 0.3, 0.6, 0.95, 0.9999])
async def test_a_backup_that_was_changed_or_cut_changes_nothing(
    postgres_url: str, database_url: str, vault: Vault, make_job: JobFactory, part: float
) -> None:
    """One bit, or the end: it is refused in a sentence, and no row is there."""
    for number in range(30):
        await make_job(spec={"image": "x", "command": [str(number), "y" * 5000]})
    backup = await dump(database_url, vault)
    place = int(len(backup) * part)
    changed = bytearray(backup)
    changed[place] ^= 1

    async with create_target(postgres_url) as target:
        for damaged in (bytes(changed), backup[:place], backup[:-1], backup + b"x"):
            with pytest.raises(BackupRefused, match="nothing was changed"):
                await load(target, vault, damaged)
        # As a superuser: row-level security hides every row from the owner.
        seen_by_all = urlsplit(postgres_url)._replace(path=urlsplit(target).path).geturl()
        for table in ("subject", "job", "restored_subject"):
            assert await query(seen_by_all, f"SELECT count(*) FROM {table}") == [0]  # noqa: S608
        assert await query(target, SWITCHED_OFF) == []


async def test_a_backup_cut_between_two_chunks_is_refused(
    database_url: str, vault: Vault, make_job: JobFactory
) -> None:
    """The number of a chunk and whether it is the last are part of it."""
    for _ in range(4):
        await make_job(spec={"image": "x", "command": [os.urandom(40_000).hex()]})
    backup = await dump(database_url, vault)
    header = backup.index(b"}") + 1
    chunk = 64 * 1024 + 16
    assert len(backup) > header + 2 * chunk
    first, second = backup[header : header + chunk], backup[header + chunk : header + 2 * chunk]

    for cut in (first, first + second, second + first, first + first):
        with pytest.raises(BackupRefused, match="damaged"):
            BackupReader(io.BytesIO(backup[:header] + cut), vault.find_backup_key).verify()


async def test_a_backup_opens_with_the_keys_of_its_time_only(
    postgres_url: str, database_url: str, vault: Vault, vault_keys: str, ada_id: str
) -> None:
    """An old key behind a new one is enough; the token of Ada is nowhere in the file."""
    backup = await dump(database_url, vault)

    assert b"hf_ada" not in backup
    assert ADA_ID.encode() not in backup
    with pytest.raises(BackupRefused, match="a key that is not in HOLDFAST_VAULT_KEYS"):
        BackupReader(io.BytesIO(backup), Vault.from_key_ring(make_key("1")).find_backup_key)
    later = Vault.from_key_ring(f"{make_key('2')},{vault_keys}")
    BackupReader(io.BytesIO(backup), later.find_backup_key).verify()
    assert await dump(database_url, vault) != backup


async def test_a_database_with_rows_is_left_alone(
    database_url: str, vault: Vault, ada_id: str
) -> None:
    """A restore never merges."""
    backup = await dump(database_url, vault)

    with pytest.raises(BackupRefused, match=r"has rows .* subject, credential"):
        await load(database_url, vault, backup)

    assert await query(database_url, "SELECT id FROM subject") == [ada_id]
    assert await query(database_url, SWITCHED_OFF) == []


async def test_nothing_is_restored_beneath_a_worker(
    postgres_url: str, database_url: str, vault: Vault, ada_id: str
) -> None:
    """It has read the name of the deployment already, and would not know the jobs of the backup."""
    backup = await dump(database_url, vault)

    async with create_target(postgres_url) as target:
        async with Database(
            target, application_name="holdfast-worker", role=DatabaseRole.WORKER
        ) as worker:
            async with worker.transaction() as tx:
                await tx.execute("SELECT id FROM deployment")
            with pytest.raises(BackupRefused, match=r"because a worker is connected .* Stop"):
                await load(target, vault, backup)
        summary = await load(target, vault, backup)
    assert summary.rows["subject"] == 1


async def test_a_login_that_cannot_see_all_rows_makes_no_backup(
    postgres_url: str, database_url: str, vault: Vault, ada_id: str
) -> None:
    """Forced row-level security shows it nothing: an empty backup would look like a good one."""
    async with create_login(postgres_url) as url:
        other = urlsplit(url)._replace(path=urlsplit(database_url).path).geturl()
        with pytest.raises(BackupRefused, match="GRANT holdfast_worker TO plain_"):
            await dump(other, vault)
    await query(database_url, "DROP POLICY work ON credential")
    with pytest.raises(BackupRefused, match="hides rows of credential"):
        await dump(database_url, vault)


async def test_a_login_that_does_not_own_the_tables_restores_nothing(
    postgres_url: str, database_url: str, vault: Vault, ada_id: str
) -> None:
    """It is told which login does."""
    backup = await dump(database_url, vault)

    async with create_target(postgres_url) as target, create_login(postgres_url) as url:
        other = urlsplit(url)._replace(path=urlsplit(target).path).geturl()
        with pytest.raises(BackupRefused, match="does not own the tables"):
            await load(other, vault, backup)


async def test_a_database_of_another_release_is_not_backed_up(
    database_url: str, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have tables that this release does not know."""
    monkeypatch.setattr("schema.db.backup.dump.head_revision", lambda: "later")

    with pytest.raises(Conflict, match="backs up revision later"):
        await dump(database_url, vault)


class LateWriter(io.BytesIO):
    """A file at whose first write somebody signs up and launches a job."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.is_late = False

    def write(self, data: Any, /) -> int:
        if self.is_late is False and self.tell() > 0:
            self.is_late = True
            thread = threading.Thread(target=lambda: asyncio.run(self.sign_up()))
            thread.start()
            thread.join()
        return super().write(data)

    async def sign_up(self) -> None:
        await query(self.url, "INSERT INTO subject (id, name) VALUES ('late', 'late')")


async def test_a_backup_is_of_one_moment(
    postgres_url: str, database_url: str, vault: Vault, make_job: JobFactory
) -> None:
    """What is committed while it is written is in none of its tables."""
    # The rows of a table that is read before that of the subjects fill the first chunk.
    async with (
        Database(database_url, application_name="tests") as database,
        database.transaction() as tx,
    ):
        await tx.execute(
            "INSERT INTO price_list (source, entries) VALUES ('x', $1)", [os.urandom(99_000).hex()]
        )
    sink = LateWriter(database_url)
    assert list_backup_tables().index("price_list") < list_backup_tables().index("subject")

    backup = await dump(database_url, vault, sink)

    assert sink.is_late
    async with create_target(postgres_url) as target:
        summary = await load(target, vault, backup)
    assert summary.rows["subject"] == 1
