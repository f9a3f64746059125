"""Whatever ends a job of the local Hub, nothing of it goes on running."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from huggingface_hub import HfApi, JobInfo

from tests.support.hub.emulator_process import (
    HubEmulatorProcess,
    run_command,
    run_hub_emulator,
    stream_job_events,
    wait_until_over,
)
from tests.support.polling import wait_until

FAMILY_SCRIPT = "sleep 600 & echo $!; sleep 600 & echo $!; echo $HOME; wait"
"""A shell that says the pids of two children and where it lives, and waits for them."""
RUNAWAY_SCRIPT = (
    "import os, subprocess, time; "
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True); "
    "print(os.getpid()); print(child.pid); print(os.environ['HOME'], flush=True); "
)
"""A program whose child has left its session, so that no signal to the session reaches it."""


def wait_until_started(hub: HubEmulatorProcess, job: JobInfo) -> tuple[list[psutil.Process], Path]:
    """Wait for a job to say who its processes are, and where they live."""
    log = stream_job_events(hub, job)
    _, *pids, home = [next(log)["data"] for _ in range(4)]
    log.close()
    return [psutil.Process(int(pid)) for pid in pids], Path(home)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_timeout_ends_the_process_and_its_children(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """The bill is bounded by what was asked for."""
    job = run_command(alice_api, "sh", "-c", FAMILY_SCRIPT, timeout=1)
    children, home = wait_until_started(hub_emulator, job)

    ended = wait_until_over(alice_api, job)

    assert (ended.status.stage, ended.status.message) == ("ERROR", "Job timeout")
    assert all(is_gone(child) for child in children)
    assert not home.exists()


def test_a_cancel_ends_the_process_and_its_children(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """Cancelled means that nothing goes on running; saying it twice is harmless."""
    job = run_command(alice_api, "sh", "-c", FAMILY_SCRIPT)
    children, home = wait_until_started(hub_emulator, job)

    alice_api.cancel_job(job_id=job.id, namespace="alice")
    alice_api.cancel_job(job_id=job.id, namespace="alice")

    assert all(is_gone(child) for child in children)
    assert not home.exists()
    ended = wait_until_over(alice_api, job)
    assert (ended.status.stage, ended.finished_at) == ("CANCELED", None)


def test_temporary_files_of_a_job_end_with_it(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """A container takes its files with it; here nothing may stay on the machine."""
    job = run_command(alice_api, "sh", "-c", "echo $HOME; mktemp")
    log = stream_job_events(hub_emulator, job)
    _, home, file = [Path(next(log)["data"]) for _ in range(3)]
    log.close()

    wait_until_over(alice_api, job)

    assert home in file.parents
    wait_until(lambda: not file.exists())


def test_what_a_killed_hub_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Its jobs lived in its own folder, and not in one of the machine."""
    with run_hub_emulator(tmp_path) as hub:
        api = hub.api("alice")
        _, home = wait_until_started(hub, run_command(api, "sh", "-c", FAMILY_SCRIPT))
    left = home.parent / "left"
    left.mkdir()

    with run_hub_emulator(tmp_path):
        assert left.is_relative_to(tmp_path)
        assert not left.exists()


def test_a_job_is_cancelled_before_it_ever_ran(alice_api: HfApi) -> None:
    """Nothing is started for somebody who has changed their mind."""
    job = run_command(alice_api, "true")
    alice_api.cancel_job(job_id=job.id, namespace="alice")

    ended = wait_until_over(alice_api, job)

    assert (ended.status.stage, ended.started_at) == ("CANCELED", None)


def test_a_cancel_reaches_a_job_that_never_stops_talking(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """Unread output must not keep a job, or its cancel, waiting."""
    # Several, for each alone would be kept waiting only about every second time.
    jobs = [run_command(alice_api, "yes", "x" * 3000) for _ in range(4)]
    for job in jobs:
        next(stream_job_events(hub_emulator, job))

    for job in jobs:
        alice_api.cancel_job(job_id=job.id, namespace="alice")

    assert [wait_until_over(alice_api, job).status.stage for job in jobs] == ["CANCELED"] * 4


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux gives orphans away")
@pytest.mark.parametrize("ending", ["the end", "a cancel"])
def test_a_child_that_left_the_session_ends_too(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, ending: str
) -> None:
    """A daemon dies with its container, so it must die with its job."""
    last = "time.sleep(600)" if ending == "a cancel" else "time.sleep(0.5)"
    job = run_command(alice_api, "python", "-c", RUNAWAY_SCRIPT + last)
    processes, _ = wait_until_started(hub_emulator, job)

    if ending == "a cancel":
        alice_api.cancel_job(job_id=job.id, namespace="alice")

    wait_until_over(alice_api, job)
    assert all(is_gone(process) for process in processes)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_jobs_of_a_hub_end_with_it(tmp_path: Path, ending: signal.Signals) -> None:
    """An emulator that leaves orphans or folders behind would be worse than none."""
    with run_hub_emulator(tmp_path) as hub:
        children, home = wait_until_started(hub, run_command(hub.api(), "sh", "-c", FAMILY_SCRIPT))

        hub.process.send_signal(ending)

        wait_until(lambda: all(is_gone(child) for child in children))
        wait_until(lambda: not home.exists())


def test_a_supervisor_that_is_killed_takes_its_program_along(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """Even a job that turns on its own keeper does not go on unwatched."""
    job = run_command(alice_api, "sh", "-c", "echo $$; echo $PPID; echo $HOME; exec sleep 600")
    (program, keeper), _ = wait_until_started(hub_emulator, job)

    os.kill(keeper.pid, signal.SIGKILL)

    wait_until(lambda: is_gone(program))
    assert (
        wait_until_over(alice_api, job).status.message
        == "Job failed with exit code: 137. Reason: OOMKilled"
    )
