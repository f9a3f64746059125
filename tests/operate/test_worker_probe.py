"""What a supervisor and an operator are told of the workers."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.jobs.monitoring import heartbeats
from schema.settings import Settings
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.support.paths import REPOSITORY


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Holdfast."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=REPOSITORY,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )


@pytest.fixture
def environment(make_settings: Callable[..., Settings], vault_keys: str) -> dict[str, str]:
    """The settings of a worker, as its environment."""
    settings = make_settings()
    return {
        "HOLDFAST_DATABASE_URL": str(settings.database_url),
        "HOLDFAST_REDIS_URL": str(settings.redis_url),
        "HOLDFAST_HUB_URL": f"http://127.0.0.1:{find_free_port()}",
        "HOLDFAST_VAULT_KEYS": vault_keys,
        "COLUMNS": "200",
    }


async def beat(database: Database, vault: Vault, **overrides: Any) -> None:
    """Write the heartbeat of a worker of this host."""
    heartbeat: dict[str, Any] = {
        "name": f"{socket.gethostname()}:1",
        "version": "0.1.0",
        "key_marks": vault.key_marks,
        "attempts": 3,
        "since_sweep": timedelta(seconds=1),
        "last_error": None,
        "is_first": True,
    }
    async with database.transaction() as tx:
        await heartbeats.record_heartbeat(tx, **heartbeat | overrides)


@pytest.mark.parametrize(
    ("overrides", "silent_for", "exit_code", "sentence"),
    [
        ({}, timedelta(0), 0, "looks for work"),
        ({}, timedelta(minutes=2), 1, "No worker"),
        ({"name": "elsewhere:1"}, timedelta(0), 1, "No worker"),
        ({"since_sweep": timedelta(minutes=2)}, timedelta(0), 1, "has not looked for work"),
    ],
)
async def test_the_probe_tells_a_worker_that_works_from_one_that_is_stuck_or_gone(
    database: Database,
    vault: Vault,
    environment: dict[str, str],
    overrides: dict[str, Any],
    silent_for: timedelta,
    exit_code: int,
    sentence: str,
) -> None:
    """A process that runs is not a worker that works."""
    await beat(database, vault, **overrides)
    async with database.transaction() as tx:
        await tx.execute("UPDATE worker_heartbeat SET seen_at = now() - $1::interval", silent_for)

    probe = run_command("worker", "--probe", **environment)

    assert (probe.returncode, sentence in probe.stdout) == (exit_code, True), probe


async def test_the_probe_blames_no_worker_for_a_database_that_is_away(
    environment: dict[str, str],
) -> None:
    """A restart of every worker mends no database."""
    nowhere = f"postgresql://u:p@127.0.0.1:{find_free_port()}/d"

    probe = run_command("worker", "--probe", **environment | {"HOLDFAST_DATABASE_URL": nowhere})

    assert (probe.returncode, "Nobody can tell" in probe.stdout) == (0, True), probe


async def test_the_status_shows_workers_queues_holds_and_last_errors(
    database: Database, vault: Vault, environment: dict[str, str], make_job: Callable[..., Any]
) -> None:
    """One command answers what is asked first when something is slow."""
    await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET hold = 'operator', held_at = now()")
    await beat(database, vault, last_error=("hub: ConnectError: no", timedelta(0)))
    await beat(database, vault, name="elsewhere:2", since_sweep=timedelta(minutes=2))

    status = run_command("status", **environment)

    assert status.returncode == 0, status
    rows = [line.split() for line in status.stdout.splitlines()]
    [queue] = [row for row in rows if row[:1] == ["hub_job"]]
    assert queue[2:14:2] == ["0", "0", "1", "0", "0ms", "0"]
    assert [row[2] for row in rows if row[:1] == ["elsewhere:2"]] == ["stuck"]
    assert "works" in status.stdout
    for expected in ("hold: operator", "1 subject", "hub: ConnectError: no", "unowned rows"):
        assert expected in status.stdout


@pytest.mark.xdist_group("stack")
def test_a_real_worker_beats_and_is_found_by_its_probe(stack: Stack) -> None:
    """The whole way: a process of ours, its row, and the command of its supervisor."""
    probe = run_command("worker", "--probe", **stack.environment)
    status = run_command("status", **stack.environment | {"COLUMNS": "200"})

    assert (probe.returncode, "looks for work" in probe.stdout) == (0, True), probe
    assert f"{socket.gethostname()}:" in status.stdout
    assert "works" in status.stdout
