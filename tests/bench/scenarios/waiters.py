"""The scenario of the waiters: many calls of one process that wait for a change of a few jobs."""

import sys
from datetime import timedelta
from typing import Final

from tests.bench.comparison import Rounds, collect
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios import wait_latency
from tests.support.programs import run_for_result

_WAITERS: Final = {Size.TINY: (20, 100), Size.QUICK: (1000, 5000), Size.FULL: (1000, 5000)}
_JOBS: Final = {Size.TINY: 10, Size.QUICK: 200, Size.FULL: 200}
_ROUNDS: Final = {Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3}
_TIMEOUT: Final = timedelta(minutes=3)


def measure_waiters(run: BenchRun) -> Rounds:
    """Let calls wait, in a process of their own for each number of them, so that memory is theirs.

    Raises:
        RuntimeError: the process failed.
    """
    results: list[tuple[str, dict[str, float]]] = []
    for number in range(_ROUNDS[run.size]):
        for waiters in _WAITERS[run.size]:
            name = f"{waiters:,} waiters"
            run.report(f"round {number + 1} of {_ROUNDS[run.size]}: {name}")
            results.append((name, _measure(waiters, _JOBS[run.size])))
    return collect(results)


def _measure(waiters: int, jobs: int) -> dict[str, float]:
    options = ["--waiters", str(waiters), "--jobs", str(jobs)]
    return run_for_result([sys.executable, "-m", wait_latency.__name__, *options], timeout=_TIMEOUT)
