"""The scenario of the slots: no-op jobs of one worker that runs few or many of them at a time."""

from typing import Final

from tests.bench.comparison import Rounds
from tests.bench.queue_load import LoadSize
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.queues import (
    PEERS,
    QueueProgram,
    holdfast_command,
    measure_programs,
    peer_command,
)

_JOBS: Final = {
    Size.TINY: {1: 10, 16: 40, 64: 40},
    Size.QUICK: {1: 50, 16: 200, 64: 400},
    Size.FULL: {1: 200, 16: 1500, 64: 1500},
}
"""By the number of slots; fewer with one slot, where some queues run four jobs a second."""
_ROUNDS: Final = {Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3}
_MEASURES: Final = ("ends_per_second", "cpu_per_job_ms")


def measure_slots(run: BenchRun) -> Rounds:
    """Let a worker of every queue run the same jobs with each number of slots.

    Raises:
        RuntimeError: a program failed.
    """
    commands = {"holdfast": holdfast_command()} | {
        name: peer_command(peer) for name, peer in PEERS.items()
    }
    programs = [
        QueueProgram(
            f"{name}, {slots} slot{'s' if slots > 1 else ''}",
            command,
            LoadSize(concurrent=jobs, slots=slots),
        )
        for slots, jobs in _JOBS[run.size].items()
        for name, command in commands.items()
    ]
    measured = measure_programs(run, programs, rounds=_ROUNDS[run.size])
    return {
        name: [{key: each[key] for key in _MEASURES if key in each} for each in results]
        for name, results in measured.items()
    }
