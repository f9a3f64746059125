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
from tests.crash.command import run
from tests.crash.faults import Fault
from tests.crash.processes import ROOT
from tests.crash.scenes import Scene, points

SLICE: Final = [
    Scene("claim.committed", Fault.CREATE_HANG),
    Scene("launch.unsent", Fault.NONE, "relaunch"),
    Scene("launch.sent", Fault.REDIS_GONE),
    Scene("bind.written", Fault.POSTGRES_RESTARTED),
    Scene("doubt.written", Fault.CREATE_RESET_AFTER),
    Scene("find.listed", Fault.LIST_LAG),
    Scene("find.committed", Fault.CREATE_REPEATED),
    Scene("stock.before", Fault.LATE_ARRIVAL, "relaunch"),
    Scene("kill.sent", Fault.CANCEL_5XX),
    Scene("end.written", Fault.CREATE_429),
    Scene("submit.committed", Fault.CREATE_MALFORMED),
    Scene("launch.sent", Fault.ZOMBIE),
    Scene("fire.written", Fault.NONE),
]


@pytest.mark.timeout(240)
async def test_no_promise_is_broken_wherever_a_process_is_killed(tmp_path: Path) -> None:
    """Every handle ends, nothing is launched twice, nothing stays alive, and the books agree."""
    verdicts = await run(SLICE, tmp_path, lanes=3, console=Console(quiet=True))

    assert {str(v.scene): v.violations for v in verdicts if v.violations} == {}
    assert len(verdicts) == len(SLICE)
    assert sum(verdict.reached for verdict in verdicts) >= len(SLICE)
    assert sum(verdict.books.created for verdict in verdicts) > 0


def test_there_are_places_and_faults_enough() -> None:
    """The matrix is what the promises rest on; it must not shrink unnoticed."""
    assert len(points()) >= 25
    assert len(Fault) >= 10
    assert {scene.point for scene in SLICE} <= set(points())


@pytest.mark.parametrize("setting", ["somewhere", "somewhere:x:kill", "somewhere:1:sing"])
def test_a_failpoint_that_makes_no_sense_is_refused(setting: str) -> None:
    """A crash test that ends nothing would prove nothing."""
    with pytest.raises(Invalid, match="NAME:VISIT:kill"):
        failpoints.arm(setting)


def test_a_process_ends_at_the_visit_it_was_told_to() -> None:
    """Nothing of it is cleaned up, as in a real crash."""
    script = (
        "from schema.common.failpoints import arm, reach\n"
        "arm('here:2:kill')\n"
        "for place in ('here', 'there', 'here', 'here'):\n"
        "    print(place, flush=True)\n"
        "    reach(place)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )

    assert process.returncode == -signal.SIGKILL
    assert process.stdout.split() == ["here", "there", "here"]
