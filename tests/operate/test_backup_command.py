"""`holdfast backup` and `holdfast restore` as an operator runs them."""

import io
import stat
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from anyio import to_thread

from schema.accounts.row_security import DatabaseRole
from schema.db import revisions
from service.cli.main import main
from service.local.ports import find_free_port
from tests.support.database.row_security import create_login
from tests.support.factories import JobFactory


class Outcome:
    """What a command has returned and printed."""

    def __init__(self, code: int, errors: str) -> None:
        self.code = code
        self.errors = " ".join(errors.split())


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, vault_keys: str
) -> pytest.MonkeyPatch:
    """The variables of the deployment whose database is backed up."""
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "VAULT_KEYS": vault_keys,
    }.items():
        monkeypatch.setenv(f"HOLDFAST_{name}", value)
    return monkeypatch


async def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    code = await to_thread.run_sync(main, arguments)
    return Outcome(code, capsys.readouterr().err)


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def count_jobs(url: str) -> int | None:
    """Return how many jobs a database has; None if it has no table of them."""
    connection: asyncpg.Connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('job')") is None:
            return None
        await connection.execute(f"SET ROLE {DatabaseRole.WORKER}")
        count: int = await connection.fetchval("SELECT count(*) FROM job")
        return count
    finally:
        await connection.close()


def is_unknown(_: str) -> bool:
    return False


async def grant_roles(admin_url: str, url: str) -> None:
    admin: asyncpg.Connection = await asyncpg.connect(admin_url)
    try:
        for role in DatabaseRole:
            name = urlsplit(url).username
            await admin.execute(f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE")
    finally:
        await admin.close()


async def test_a_file_is_restored_into_an_empty_database(
    postgres_url: str,
    environment: pytest.MonkeyPatch,
    make_job: JobFactory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing was migrated before; the login is one that a managed server gives."""
    await make_job()
    place = tmp_path / "holdfast.backup"

    done = await run(capsys, "backup", str(place))
    assert done.code == 0
    assert f"to {place}." in done.errors
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert list_names(tmp_path) == [place.name]
    async with create_login(postgres_url) as target:
        await grant_roles(postgres_url, target)
        environment.setenv("HOLDFAST_DATABASE_URL", target)
        restored = await run(capsys, "restore", str(place))
        again = await run(capsys, "restore", str(place))

        assert restored.code == 0
        assert "launch nothing until that is done" in restored.errors
        assert await count_jobs(target) == 1
        assert again.code == 1
        assert "because the database has rows" in again.errors
        assert await count_jobs(target) == 1


async def test_a_damaged_file_does_not_even_create_tables(
    postgres_url: str,
    environment: pytest.MonkeyPatch,
    make_job: JobFactory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is read to its end before anything is written."""
    await make_job()
    place = tmp_path / "holdfast.backup"
    await run(capsys, "backup", str(place))
    place.write_bytes(place.read_bytes()[:-1])

    async with create_login(postgres_url) as target:
        await grant_roles(postgres_url, target)
        environment.setenv("HOLDFAST_DATABASE_URL", target)
        refused = await run(capsys, "restore", str(place))

        assert refused.code == 1
        assert refused.errors.startswith("The backup is damaged")
        assert await count_jobs(target) is None


async def test_a_folder_keeps_the_newest_backups(
    environment: pytest.MonkeyPatch, ada_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other files stay, and a backup that fails leaves nothing and deletes nothing."""
    for name in ("holdfast-20200101T000000Z.backup", "holdfast-20200102T000000Z.backup", "notes"):
        (tmp_path / name).touch()

    assert (await run(capsys, "backup", str(tmp_path), "--keep", "2")).code == 0
    names = list_names(tmp_path)
    assert len(names) == 3
    assert {"holdfast-20200102T000000Z.backup", "notes"} < set(names)
    environment.setenv("HOLDFAST_DATABASE_URL", f"postgresql://127.0.0.1:{find_free_port()}/none")
    failed = await run(capsys, "backup", str(tmp_path), "--keep", "1")

    assert failed.code == 1
    assert "The database cannot be reached" in failed.errors
    assert list_names(tmp_path) == names


async def test_a_backup_goes_through_a_pipe(
    postgres_url: str,
    environment: pytest.MonkeyPatch,
    make_job: JobFactory,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Standard output has nothing but the backup, and standard input is read once."""
    await make_job()
    assert await to_thread.run_sync(main, ["backup", "-"]) == 0
    backup = capsysbinary.readouterr().out

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    async with create_login(postgres_url) as target:
        await grant_roles(postgres_url, target)
        environment.setenv("HOLDFAST_DATABASE_URL", target)
        environment.setattr("sys.stdin", io.TextIOWrapper(Pipe(backup[:-1])))
        assert await to_thread.run_sync(main, ["restore", "-"]) == 1
        assert await count_jobs(target) == 0
        environment.setattr("sys.stdin", io.TextIOWrapper(Pipe(backup)))
        assert await to_thread.run_sync(main, ["restore", "-"]) == 0
        assert await count_jobs(target) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["backup", "x.backup", "--keep", "3"], "--keep 3 needs a folder"),
        (["restore", "nowhere.backup"], "nowhere.backup cannot be used (No such file"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    """Without a traceback."""
    refused = await run(capsys, *arguments)

    assert refused.code == 1
    assert sentence in refused.errors
    assert "Traceback" not in refused.errors


async def test_a_backup_of_a_newer_release_is_refused(
    environment: pytest.MonkeyPatch,
    ada_id: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may have tables that this release does not know."""
    place = tmp_path / "holdfast.backup"
    await run(capsys, "backup", str(place))
    environment.setattr(revisions, "is_known_revision", is_unknown)

    refused = await run(capsys, "restore", str(place))

    assert refused.code == 1
    assert "which this release does not know, so nothing was changed" in refused.errors
