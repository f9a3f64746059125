"""The scenario of the first start: from `python3 -m service demo` to the handle of its job.

The cold start is in a fresh clone without an environment: it installs the packages, from the index
or from the installer's cache. The warm ones are in this clone, with an empty data folder and then
with the same one again.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.comparison import Rounds, collect
from tests.bench.scenario import BenchRun, Size
from tests.support.paths import REPOSITORY

_READY_LINE: Final = "answered with the handle"
"""What `demo` prints when the service has taken its job."""
_OWN_VARIABLES: Final = ("HOLDFAST_BOOTSTRAPPED", "HOLDFAST_VENV", "PYTHONPATH")
"""Of the environment of the benchmarks, which a person's shell does not have."""
_ROUNDS: Final = {Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3}
_TIMEOUT_SECONDS: Final = 300


def measure_first_start(run: BenchRun) -> Rounds:
    """Run the demo: cold if there is time for it, warm, and again.

    Raises:
        RuntimeError: a demo failed.
    """
    results: list[tuple[str, dict[str, float]]] = []
    if run.size is Size.FULL:
        run.report("cold")
        results.append(("demo, cold", _run_demo(_clone(run.folder), run.folder / "cold")))
    for number in range(_ROUNDS[run.size]):
        for name in ("demo, warm", "demo again, same folder"):
            run.report(name)
            results.append((name, _run_demo(REPOSITORY, run.folder / f"warm-{number}")))
    return collect(results)


def _clone(folder: Path) -> Path:
    clone = folder / "clone"
    subprocess.run(
        [shutil.which("git") or "git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True
    )
    return clone


def _run_demo(clone: Path, folder: Path) -> dict[str, float]:
    """Run the demo as a person does, by the Python that the environment was made with."""
    base_python: str = getattr(sys, "_base_executable", sys.executable)
    environment = {
        name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES
    } | {"PYTHONUNBUFFERED": "1"}
    ready_seconds: float | None = None
    written: list[str] = []
    started_at = time.perf_counter()
    with subprocess.Popen(
        [base_python, "-m", "service", "demo", "--data", str(folder)],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        for line in _read_lines(demo):
            written.append(line)
            if ready_seconds is None and _READY_LINE in line:
                ready_seconds = time.perf_counter() - started_at
        exit_code = demo.wait(_TIMEOUT_SECONDS)
    total_seconds = time.perf_counter() - started_at
    if exit_code or ready_seconds is None:
        raise RuntimeError(f"The demo ended with {exit_code}.\n{''.join(written)[-2000:]}")
    return {"ready_seconds": ready_seconds, "total_seconds": total_seconds}


def _read_lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout
