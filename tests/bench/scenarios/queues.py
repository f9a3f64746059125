"""The scenario of the queues: ours and the peers', one after the other in each round.

Every program gets an empty database of the same durable Postgres, and the same durable Valkey,
which is emptied first. In every other round the order is reversed. One program is no queue but the
bare INSERT of a row; ours is measured once more with a Redis that is down.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from schema.messaging.redis import open_redis
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests import bench
from tests.bench import holdfast_queue
from tests.bench.comparison import Rounds, collect
from tests.bench.queue_load import LoadSize
from tests.bench.scenario import BenchRun, Size
from tests.interop.python_environments import install_interpreter
from tests.support.paths import REPOSITORY
from tests.support.programs import run_for_result

PEERS_FOLDER: Final = Path(bench.__path__[0]).resolve() / "peers"
PEERS_LOCK: Final = PEERS_FOLDER / "requirements-peers.lock"
PEERS: Final = {
    "procrastinate": "procrastinate",
    "pgqueuer": "pgqueuer",
    "dbos": "dbos",
    "arq (tuned)": "arq",
    "docket": "docket",
}
"""By their names on the page, what `queue_peers.py` calls them."""
_MANY_SUBJECTS: Final = 20
_TIMEOUT: Final = timedelta(minutes=5)
_NO_REDIS: Final = "redis://127.0.0.1:9/0"
"""Nobody answers there."""
_SWEEP_SECONDS: Final = 1.0
"""How often a worker looks by itself, by default."""
_SIZES: Final = {
    Size.TINY: LoadSize(sequential=20, concurrent=40, wakes=5),
    Size.QUICK: LoadSize(sequential=100, concurrent=600, wakes=30),
    Size.FULL: LoadSize(sequential=300, concurrent=3000, wakes=60),
}


@dataclass(frozen=True, slots=True)
class QueueProgram:
    """A program that puts a load on one queue."""

    name: str
    """Of the queue on the page, with the circumstances."""
    command: list[str]
    """Without the load, which is its last argument."""
    load: LoadSize
    has_redis: bool = True


def holdfast_command(subjects: int = 1) -> list[str]:
    """Return the command of ours, with the jobs of so many people."""
    return [sys.executable, "-m", holdfast_queue.__name__, str(subjects)]


def peer_command(peer: str) -> list[str]:
    """Return the command of a peer; the packages of all are installed first, from the network."""
    return [install_interpreter(PEERS_LOCK), str(PEERS_FOLDER / "queue_peers.py"), peer]


def measure_queues(run: BenchRun) -> Rounds:
    """Measure every queue in every round.

    Raises:
        RuntimeError: a program failed.
    """
    size = _SIZES[run.size]
    few_wakes = LoadSize(wakes=size.wakes // 2, most_pause_seconds=_SWEEP_SECONDS)
    programs = [
        QueueProgram("holdfast", holdfast_command(), size),
        QueueProgram(
            f"holdfast, {_MANY_SUBJECTS} subjects", holdfast_command(_MANY_SUBJECTS), size
        ),
        QueueProgram("holdfast, without Redis", holdfast_command(), few_wakes, has_redis=False),
        QueueProgram("bare INSERT", peer_command("insert"), size),
        *(QueueProgram(name, peer_command(peer), size) for name, peer in PEERS.items()),
    ]
    return measure_programs(run, programs, rounds=run.rounds)


def measure_programs(run: BenchRun, programs: list[QueueProgram], *, rounds: int) -> Rounds:
    """Run programs one after the other, in every round.

    Raises:
        RuntimeError: a program failed.
    """
    postgres = Postgres(run.folder / "postgres", durable=True)
    valkey = Valkey(run.folder / "valkey", durable=True)
    results: list[tuple[str, dict[str, Any]]] = []
    try:
        servers = postgres.start(), valkey.start()
        for number in range(rounds):
            for program in programs[:: -1 if number % 2 else 1]:
                run.report(f"round {number + 1} of {rounds}: {program.name}")
                environment = _make_environment(servers, program, f"bench_{len(results)}")
                load = json.dumps(asdict(program.load))
                result = run_for_result(
                    [*program.command, load], timeout=_TIMEOUT, environment=environment
                )
                results.append((program.name, result))
    finally:
        valkey.stop()
        postgres.stop()
    return collect(results)


def _make_environment(
    servers: tuple[str, str], program: QueueProgram, database: str
) -> dict[str, str]:
    """Make an empty database and an empty Redis, and name both to a program."""
    database_url, redis_url = servers
    asyncio.run(_create_database(database_url, database))
    asyncio.run(_empty_redis(redis_url))
    return {
        **os.environ,
        "BENCH_DATABASE_URL": f"{database_url.rpartition('/')[0]}/{database}",
        "BENCH_REDIS_URL": redis_url if program.has_redis else _NO_REDIS,
        "PYTHONPATH": os.pathsep.join([str(PEERS_FOLDER.parent), str(REPOSITORY)]),
        "PYTHONWARNINGS": "ignore",
    }


async def _create_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


async def _empty_redis(url: str) -> None:
    async with open_redis(url) as redis:
        await redis.flushall()  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
