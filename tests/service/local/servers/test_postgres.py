"""A private Postgres: it starts on what it finds, and keeps what it has acknowledged."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from service.local.errors import CannotStart
from service.local.servers.binaries import find_postgres_bin
from service.local.servers.postgres import Postgres
from tests.support.database import unprivileged_postgres
from tests.support.paths import REPOSITORY

REQUIRES_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on other accounts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder, durable=False)
    yield server
    server.stop()


async def _execute(dsn: str, *statements: str) -> object:
    """Execute the statements and return the first value of the last one's first row."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def _read_postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "cluster" / "postmaster.pid").read_text().split("\n")[0]))


async def test_it_starts_with_its_own_database_and_stops_without_a_trace(
    postgres: Postgres, folder: Path
) -> None:
    """What the demo stands on; and no later start may meet what an earlier one left."""
    dsn = postgres.start()
    process = _read_postmaster(folder)

    assert await _execute(dsn, "SELECT current_database()") == "holdfast"

    postgres.stop()
    assert not process.is_running()
    assert not (folder / "cluster" / "postmaster.pid").exists()


async def test_a_restart_keeps_the_address_and_the_rows(postgres: Postgres) -> None:
    """A person's psql history and a client's configuration stay valid."""
    first = postgres.start()
    await _execute(first, "CREATE TABLE kept AS SELECT 1 AS x", "SELECT 1")
    postgres.stop()

    second = postgres.start()

    assert second == first
    assert await _execute(second, "SELECT x FROM kept") == 1


async def test_a_commit_survives_kill_9_and_an_open_transaction_does_not(
    folder: Path,
) -> None:
    """The promise behind every handle: answered means written."""
    server = Postgres(folder)
    dsn = server.start()
    await _execute(dsn, "CREATE TABLE kept AS SELECT 1 AS x", "SELECT 1")
    connection = await asyncpg.connect(dsn)
    await connection.execute("BEGIN; INSERT INTO kept VALUES (2)")
    _read_postmaster(folder).kill()
    connection.terminate()

    again = Postgres(folder)
    try:
        assert await _execute(again.start(), "SELECT sum(x) FROM kept") == 1
    finally:
        again.stop()
        server.stop()


async def test_a_server_that_lost_its_supervisor_is_stopped_before_the_next_starts(
    postgres: Postgres, folder: Path
) -> None:
    """Where the kernel does not end orphans, two servers must not come to share one cluster."""
    await _execute(postgres.start(), "CREATE TABLE kept AS SELECT 1 AS x", "SELECT 1")
    orphan = _read_postmaster(folder)
    successor = Postgres(folder, durable=False)

    try:
        assert await _execute(successor.start(), "SELECT x FROM kept") == 1
        assert postgres.exit_code == 0
        assert _read_postmaster(folder) != orphan
    finally:
        successor.stop()


async def test_a_pid_file_that_names_somebody_else_does_not_stop_the_start(
    postgres: Postgres, folder: Path
) -> None:
    """After a reboot the number belongs to another program, which is none of our business."""
    postgres.start()
    postgres.stop()
    stale = folder / "cluster" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{folder / 'cluster'}\n")

    assert await _execute(postgres.start(), "SELECT 1") == 1


async def test_a_half_made_cluster_is_thrown_away(postgres: Postgres, folder: Path) -> None:
    """A laptop lid closed during the first start must not cost a second one by hand."""
    draft = folder / "cluster.draft"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")

    assert await _execute(postgres.start(), "SELECT 1") == 1
    assert not draft.exists()


async def test_a_port_that_was_taken_meanwhile_is_left_to_its_new_owner(
    postgres: Postgres,
) -> None:
    """Nobody should have to know which ports we like."""
    port = urlsplit(postgres.start()).port
    postgres.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()

        moved = postgres.start()

        assert urlsplit(moved).port != port
        assert await _execute(moved, "SELECT 1") == 1


def test_a_cluster_of_another_version_is_refused_in_a_sentence(
    postgres: Postgres, folder: Path
) -> None:
    """Postgres would say so in its log only, and would not say what to do."""
    postgres.start()
    postgres.stop()
    (folder / "cluster" / "PG_VERSION").write_text("12\n")

    with pytest.raises(CannotStart, match="made by Postgres 12, but this is Postgres"):
        postgres.start()


def test_a_server_that_cannot_start_shows_its_own_words(postgres: Postgres, folder: Path) -> None:
    """The reason is in the log; nobody should have to look for the log."""
    postgres.start()
    postgres.stop()
    (folder / "cluster" / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(CannotStart, match="no_such_setting"):
        postgres.start()


def test_the_password_is_readable_by_its_owner_alone(postgres: Postgres, folder: Path) -> None:
    """On a shared machine the loopback interface is everybody's."""
    postgres.start()

    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "cluster").stat().st_mode) == 0o700


@REQUIRES_ROOT
def test_root_in_a_container_gives_the_server_a_place_it_can_walk_into(
    folder: Path, tmp_path: Path
) -> None:
    """Docker refuses user namespaces, and root's folders are closed to the account below it."""
    wheel = find_postgres_bin().parent.parent
    private = tmp_path / "site-packages"
    shutil.copytree(wheel / "pginstall", private / wheel.name / "pginstall")
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), private / f"{wheel.name}.libs")
    programs = private / wheel.name / "pginstall" / "bin"

    run = _start_in_container(0, folder, HOLDFAST_POSTGRES_BIN=str(programs))

    assert run.returncode == 0, run.stderr
    assert "root" not in run.stdout
    assert len(run.stdout.split()) == 2
    assert not Path("/var/lib/holdfast", (folder / "elsewhere").read_text()).exists()


@REQUIRES_ROOT
def test_an_account_without_a_name_is_told_what_is_missing(tmp_path: Path) -> None:
    """`docker run --user 4242`: initdb's own message would not say how to go on."""
    run = _start_in_container(4242, tmp_path / "postgres")

    assert "user id 4242 has no line in /etc/passwd" in run.stderr
    assert "Traceback" not in run.stderr


def _start_in_container(
    uid: int, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", unprivileged_postgres.__name__, str(uid), folder],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
