"""A slice of the crash matrix; `python3 -m tests.crash` plays the whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from schema.common import failpoints
from schema.common.errors import Invalid
from tests.crash.cli import run_cases
from tests.crash.crash_matrix import CrashCase, find_failpoints
from tests.crash.faulty_hub import Fault
from tests.support.paths import REPOSITORY

SLICE_CASES: Final = [
    CrashCase("claim.committed", Fault.CREATE_HANG),
    CrashCase("launch.unsent", Fault.NONE, "relaunch"),
    CrashCase("launch.sent", Fault.REDIS_GONE),
    CrashCase("bind.written", Fault.POSTGRES_RESTARTED),
    CrashCase("doubt.written", Fault.CREATE_RESET_AFTER),
    CrashCase("find.listed", Fault.LIST_LAG),
    CrashCase("find.committed", Fault.CREATE_REPEATED),
    CrashCase("stock.before", Fault.LATE_ARRIVAL, "relaunch"),
    CrashCase("kill.sent", Fault.CANCEL_5XX),
    CrashCase("end.written", Fault.CREATE_429),
    CrashCase("submit.committed", Fault.CREATE_MALFORMED),
    CrashCase("launch.sent", Fault.ZOMBIE),
    CrashCase("fire.written", Fault.NONE),
]


@pytest.mark.timeout(600)
async def test_no_promise_is_broken_wherever_a_process_is_killed(tmp_path: Path) -> None:
    """Every handle ends, nothing is launched twice, nothing stays alive, and the counts agree."""
    results = await run_cases(SLICE_CASES, tmp_path, lanes=3, console=Console(quiet=True))

    assert {str(v.case): v.violations for v in results if v.violations} == {}
    assert len(results) == len(SLICE_CASES)
    assert sum(result.reached for result in results) >= len(SLICE_CASES)
    assert sum(result.counts.created for result in results) > 0


def test_there_are_places_and_faults_enough() -> None:
    """The matrix is what the promises rest on; it must not shrink unnoticed."""
    assert len(find_failpoints()) >= 25
    assert len(Fault) >= 10
    assert {case.point for case in SLICE_CASES} <= set(find_failpoints())


@pytest.mark.parametrize("setting", ["somewhere", "somewhere:x:kill", "somewhere:1:sing"])
def test_a_failpoint_that_makes_no_sense_is_refused(setting: str) -> None:
    """A crash test that ends nothing would prove nothing."""
    with pytest.raises(Invalid, match="NAME:VISIT:kill"):
        failpoints.arm(setting)


def test_a_process_ends_at_the_visit_it_was_told_to() -> None:
    """Nothing of it is cleaned up, as in a real crash."""
    script = (
        f"from {failpoints.__name__} import arm, hit_failpoint\n"
        "arm('here:2:kill')\n"
        "for place in ('here', 'there', 'here', 'here'):\n"
        "    print(place, flush=True)\n"
        "    hit_failpoint(place)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )

    assert process.returncode == -signal.SIGKILL
    assert process.stdout.split() == ["here", "there", "here"]
