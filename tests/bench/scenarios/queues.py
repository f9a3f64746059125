"""The scenario of the queues: ours and the peers', one after the other in each round.

Every program gets an empty database of the same durable Postgres and a number of the same durable
Valkey. In every other round the order is reversed.
"""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import asyncpg

from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests import bench
from tests.bench import holdfast_queue
from tests.bench.comparison import Rounds, collect
from tests.bench.queue_load import LoadSize
from tests.bench.scenario import BenchRun, Size
from tests.interop.python_environments import install_interpreter
from tests.support.paths import REPOSITORY

PEERS_FOLDER: Final = Path(bench.__path__[0]).resolve() / "peers"
PEERS_LOCK: Final = PEERS_FOLDER / "requirements-peers.lock"
_PEERS: Final = ("procrastinate", "pgqueuer", "dbos", "arq", "docket")
_SUBJECT_COUNTS: Final = (1, 20)
_TIMEOUT_SECONDS: Final = 300
_SIZES: Final = {
    Size.TINY: LoadSize(sequential=20, concurrent=40, callers=16, wakes=5),
    Size.QUICK: LoadSize(sequential=100, concurrent=600, callers=16, wakes=30),
    Size.FULL: LoadSize(sequential=300, concurrent=3000, callers=16, wakes=60),
}


def measure_queues(run: BenchRun) -> Rounds:
    """Measure every queue in every round.

    Raises:
        RuntimeError: a program failed.
    """
    python = install_interpreter(PEERS_LOCK)
    commands = {
        f"holdfast-{count}": [sys.executable, "-m", holdfast_queue.__name__, str(count)]
        for count in _SUBJECT_COUNTS
    } | {peer: [python, str(PEERS_FOLDER / "queue_peers.py"), peer] for peer in _PEERS}
    load = json.dumps(asdict(_SIZES[run.size]))
    postgres = Postgres(run.folder / "postgres", durable=True)
    valkey = Valkey(run.folder / "valkey", durable=True)
    results: list[tuple[str, dict[str, Any]]] = []
    try:
        servers = postgres.start(), valkey.start()
        for number in range(run.rounds):
            names = sorted(commands, reverse=bool(number % 2))
            for place, name in enumerate(names):
                run.report(f"round {number + 1} of {run.rounds}: {name}")
                environment = _make_environment(servers, f"bench_{number}_{place}", place)
                result = _run([*commands[name], load], environment)
                results.append((result.pop("peer"), result))
    finally:
        valkey.stop()
        postgres.stop()
    return collect(results)


def _make_environment(servers: tuple[str, str], database: str, number: int) -> dict[str, str]:
    """Make an empty database, and name it and an unused number of Redis to a program."""
    database_url, redis_url = servers
    asyncio.run(_create_database(database_url, database))
    return {
        **os.environ,
        "BENCH_DATABASE_URL": f"{database_url.rpartition('/')[0]}/{database}",
        "BENCH_REDIS_URL": f"{redis_url.rpartition('/')[0]}/{number}",
        "PYTHONPATH": os.pathsep.join([str(PEERS_FOLDER.parent), str(REPOSITORY)]),
        "PYTHONWARNINGS": "ignore",
    }


async def _create_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        command,
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[-2]} failed.\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
