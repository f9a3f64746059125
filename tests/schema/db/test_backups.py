"""A backup has everything in it, whoever owns the tables."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from anyio import to_thread

from schema.accounts.audit import AuditAction, write_audit_entry
from schema.accounts.row_security import DatabaseRole
from schema.db import revisions
from schema.db.database import Database
from service.local.servers.binaries import find_postgres_bin
from tests.support.database.row_security import create_login
from tests.support.paths import DOCS
from tests.support.subjects import ADA_ID

PAGE: Final = (DOCS / "sql.md").read_text("utf-8")
(DUMP,) = re.findall(r"```sh\n(pg_dump .*?)```", PAGE, re.DOTALL)


async def test_a_dump_by_a_plain_owner_is_restored_with_every_row(
    postgres_url: str, database_url: str, tmp_path: Path
) -> None:
    """Forced row-level security holds for the owner too: as itself it could save nothing."""
    dump = str(tmp_path / "holdfast.dump")
    async with create_login(postgres_url) as url, create_login(postgres_url) as target:
        admin: asyncpg.Connection = await asyncpg.connect(postgres_url)
        for owner in (url, target):
            for role in DatabaseRole:
                name = urlsplit(owner).username
                await admin.execute(f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE")
        await admin.close()
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
        async with (
            Database(url, application_name="tests", role=DatabaseRole.WORKER) as database,
            database.transaction() as tx,
        ):
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'ada')", ADA_ID)
            await write_audit_entry(tx, AuditAction.CREDENTIAL_LENT, subject_id=ADA_ID)

        with pytest.raises(subprocess.CalledProcessError):
            await run_program("pg_dump", f"--file={dump}", url)
        _, *options, _ = shlex.split(DUMP.replace("holdfast.dump", dump))
        await run_program("pg_dump", *options, url)
        await run_program("pg_restore", "--no-owner", f"--dbname={target}", dump)

        async with (
            Database(target, application_name="tests", role=DatabaseRole.WORKER) as database,
            database.transaction() as tx,
        ):
            assert await tx.fetchval("SELECT name FROM subject") == "ada"
            await write_audit_entry(tx, AuditAction.CREDENTIAL_LENT, subject_id=ADA_ID)
            assert await tx.fetchval("SELECT count(*) FROM audit_entry") == 2


async def run_program(program: str, *arguments: str) -> None:
    await anyio.run_process([find_postgres_bin() / program, *arguments])
