"""One program under supervision: started, watched, and certainly ended."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from service.local.errors import CannotStart
from service.local.processes.child import Child, stop_side_by_side
from service.local.processes.restart import ServerRestarter

TIMEOUT = timedelta(seconds=10)
SHORT_TIMEOUT = timedelta(milliseconds=50)
ChildFactory = Callable[..., Child]
STOPS_WITH_THE_OTHERS = """
import pathlib, signal, time
folder = pathlib.Path("{folder}")
signal.signal(signal.SIGTERM, lambda *_: (folder / "told-{name}").touch())
(folder / "ready-{name}").touch()
while len(list(folder.glob("told-*"))) < 2:
    time.sleep(0.01)
(folder / "ended-{name}").touch()
"""


@pytest.fixture
def child(tmp_path: Path) -> ChildFactory:
    def make(program: str, patience: timedelta = TIMEOUT) -> Child:
        return Child(
            "The program",
            [sys.executable, "-c", program],
            os.environ,
            tmp_path / "program.log",
            folder=tmp_path,
            stop_signals=((signal.SIGTERM, patience), (signal.SIGKILL, TIMEOUT)),
        )

    return make


def test_a_program_is_ready_when_its_condition_holds(child: ChildFactory, tmp_path: Path) -> None:
    """Nobody is sent to a server before it can answer."""
    ready = tmp_path / "ready"
    program = child(f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)")

    program.start()
    program.wait_until(ready.exists, timeout=TIMEOUT)

    assert program.exit_code is None
    program.stop()


def test_one_that_ends_instead_is_reported_with_its_last_words(child: ChildFactory) -> None:
    """The reason is in the log; nobody should have to look for the log."""
    program = child("raise SystemExit('no such table: jobs')")

    program.start()
    with pytest.raises(CannotStart, match=r"exit code 1(?s:.*)no such table: jobs"):
        program.wait_until(lambda: False, timeout=TIMEOUT)


def test_one_that_dawdles_is_stopped(child: ChildFactory) -> None:
    """A start that hangs must become a sentence, not a cursor that blinks."""
    program = child("import time; time.sleep(60)")

    program.start()
    with pytest.raises(CannotStart, match=r"not ready within 0\.05 seconds"):
        program.wait_until(lambda: False, timeout=SHORT_TIMEOUT)

    assert program.pid is None


def test_one_that_ignores_the_polite_signal_is_killed(child: ChildFactory, tmp_path: Path) -> None:
    """Ctrl-C ends everything, also what is stuck."""
    deaf = tmp_path / "deaf"
    program = child(
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(60)",
        SHORT_TIMEOUT,
    )
    program.start()
    program.wait_until(deaf.exists, timeout=TIMEOUT)
    process = psutil.Process(program.pid)

    program.stop()

    assert not process.is_running()


def test_programs_that_stop_side_by_side_are_all_told_before_one_has_ended(
    child: ChildFactory, tmp_path: Path
) -> None:
    """`up` may take as long to end as its slowest process, not as long as all of them."""
    programs = [child(STOPS_WITH_THE_OTHERS.format(folder=tmp_path, name=n)) for n in range(2)]
    for number, program in enumerate(programs):
        program.start()
        program.wait_until((tmp_path / f"ready-{number}").exists, timeout=TIMEOUT)

    stop_side_by_side(programs)

    assert len(list(tmp_path.glob("ended-*"))) == len(programs)


def test_a_step_that_fails_is_a_problem_and_one_that_succeeds_is_not(child: ChildFactory) -> None:
    """Migrations run to their end before anything may rely on them."""
    child("pass").run(timeout=TIMEOUT)

    with pytest.raises(CannotStart, match="exit code 3"):
        child("raise SystemExit(3)").run(timeout=TIMEOUT)


def test_a_program_that_keeps_ending_is_started_after_ever_longer_pauses(
    child: ChildFactory,
) -> None:
    """One that cannot run must say so without filling the log or the processor."""
    program = child("raise SystemExit(4)")
    messages: list[str] = []
    revival = ServerRestarter(program, messages.append)
    program.start()

    while len(messages) < 2:
        revival.restart_if_ended()

    assert messages == [
        "The program ended with exit code 4.\nStarting it again in 0.5 s.",
        "The program ended with exit code 4.\nStarting it again in 1 s.",
    ]


def test_a_program_that_was_stopped_on_purpose_stays_stopped(child: ChildFactory) -> None:
    """An operator who stops the worker does not want to argue with the supervisor."""
    program = child("import time; time.sleep(60)")
    program.start()
    program.stop()

    ServerRestarter(program, pytest.fail).restart_if_ended()

    assert program.pid is None
