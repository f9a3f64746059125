"""The life of a job at the local Hub, as the real client sees it."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.support.hub.emulator_process import (
    HubEmulatorProcess,
    read_log_lines,
    run_command,
    stream_job_events,
    wait_until_over,
)


def test_a_command_is_run_and_its_output_kept(alice_api: HfApi) -> None:
    """The log is real, and so is the exit code."""
    job = wait_until_over(
        alice_api, run_command(alice_api, "sh", "-c", "echo out; echo err >&2; exit 0")
    )

    assert job.status.stage == "COMPLETED"
    assert sorted(read_log_lines(alice_api, job)) == ["err", "out"]


def test_a_job_has_a_python_that_knows_nothing_of_ours(alice_api: HfApi) -> None:
    """Most images have one called `python`; few machines do, and none of our packages."""
    code = "import sys; print(sys.version_info.major, flush=True); import starlette"
    job = wait_until_over(alice_api, run_command(alice_api, "python", "-c", code))

    lines = read_log_lines(alice_api, job)
    assert lines[0] == "3"
    assert lines[-1].startswith("ModuleNotFoundError")


def test_a_failure_says_its_exit_code_as_the_hub_does(alice_api: HfApi) -> None:
    """Whoever parses the sentence must find the same parts in it."""
    job = wait_until_over(alice_api, run_command(alice_api, "sh", "-c", "exit 3"))

    assert job.status.stage == "ERROR"
    assert job.status.message == "Job failed with exit code: 3. Reason: Error"


def test_a_process_killed_from_outside_counts_as_out_of_memory(alice_api: HfApi) -> None:
    """So says the Hub, for that is who kills with this signal there."""
    job = wait_until_over(alice_api, run_command(alice_api, "sh", "-c", "kill -9 $$"))

    assert job.status.message == "Job failed with exit code: 137. Reason: OOMKilled"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["no-such-program"], 127),
        (["/"], 126),
        (["echo", "a\0b"], 126),
        (["echo", "x" * 999_999], 126),
    ],
)
def test_a_command_that_cannot_be_run_fails_by_itself(
    alice_api: HfApi, command: list[str], code: int
) -> None:
    """As in a container: the job fails, the Hub does not, and nothing is left running."""
    job = wait_until_over(alice_api, run_command(alice_api, *command))

    assert job.status.message == f"Job failed with exit code: {code}. Reason: Error"
    assert read_log_lines(alice_api, job)[0].startswith("exec: ")


def test_nothing_of_this_machines_environment_reaches_a_job(alice_api: HfApi) -> None:
    """Secrets of whoever runs the Hub are not the caller's to read."""
    job = wait_until_over(
        alice_api,
        run_command(alice_api, "sh", "-c", "env; pwd", env={"A1": "x"}, secrets={"TOKEN": "s"}),
    )

    lines = read_log_lines(alice_api, job)
    names = {line.split("=")[0] for line in lines if "=" in line}
    expected_names = {
        "A1",
        "TOKEN",
        "PATH",
        "HOME",
        "LANG",
        "JOB_ID",
        "ACCELERATOR",
        "CPU_CORES",
        "MEMORY",
        "TMPDIR",
    }
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == expected_names
    assert f"HOME={lines[-1]}" in lines
    assert not Path(lines[-1]).exists()
    assert job.environment == {"A1": "x"}
    assert list(job.secrets or {}) == ["TOKEN"]


def test_a_job_may_write_to_no_more_memory_than_its_flavor_has(alice_api: HfApi) -> None:
    """A job that eats its machine on the Hub must not eat this one."""
    job = wait_until_over(
        alice_api, run_command(alice_api, "sh", "-c", "ulimit -d", flavor="cpu-basic")
    )

    assert 0 < int(read_log_lines(alice_api, job)[0]) <= 16 * 1024**2


def test_attempts_are_counted_and_the_last_one_decides(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """A failed attempt is not the end while another is allowed."""
    job = wait_until_over(
        alice_api, run_command(alice_api, "sh", "-c", "echo again; exit 1", attempts=2)
    )

    assert job.status.stage == "ERROR"
    assert read_log_lines(alice_api, job) == ["again", "again"]
    assert [event["failureCount"] for event in stream_job_events(hub_emulator, job, "events")] == [
        2
    ]


def test_stages_are_told_as_they_come(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, tmp_path: Path
) -> None:
    """A watcher need not poll."""
    seen = tmp_path / "running-was-seen"
    until_seen = f"while [ ! -e '{seen}' ]; do sleep 0.05; done"
    job = run_command(alice_api, "sh", "-c", until_seen)

    stages: list[str] = []
    for event in stream_job_events(hub_emulator, job, "events"):
        stages.append(event["stage"])
        if event["stage"] == "RUNNING":
            seen.touch()

    assert stages[-2:] == ["RUNNING", "COMPLETED"]


def test_a_log_is_replayed_from_the_start_after_the_end(alice_api: HfApi) -> None:
    """Logs stay readable, in order, however often they are read."""
    job = wait_until_over(
        alice_api, run_command(alice_api, "sh", "-c", "for n in 1 2 3 4; do echo $n; done")
    )

    assert read_log_lines(alice_api, job) == read_log_lines(alice_api, job) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("tail", "expected"), [(2, ["3", "4"]), (4, ["1", "2", "3", "4"]), (9, None)]
)
def test_a_log_can_be_cut_to_its_tail(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, tail: int, expected: list[str] | None
) -> None:
    """The line that says when the job was started comes first all the same."""
    job = wait_until_over(
        alice_api, run_command(alice_api, "sh", "-c", "for n in 1 2 3 4; do echo $n; done")
    )

    first, *rest = [
        line["data"] for line in stream_job_events(hub_emulator, job, f"logs?tail={tail}")
    ]

    assert first.startswith("===== Job started at ")
    assert rest == (expected or ["1", "2", "3", "4"])


def test_a_log_that_is_followed_comes_line_by_line(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """A person watches it while the job runs, and is told when it ends."""
    job = run_command(alice_api, "sh", "-c", "echo first; sleep 0.3; echo second")
    log = stream_job_events(hub_emulator, job)

    assert next(log)["data"].startswith("===== Job started at ")
    assert next(log)["data"] == "first"
    assert alice_api.inspect_job(job_id=job.id, namespace="alice").status.stage == "RUNNING"
    assert [line["data"] for line in log] == ["second"]


def test_metrics_come_while_a_job_runs_and_no_longer(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi
) -> None:
    """The real client takes the refusal for the end of the stream."""
    job = run_command(alice_api, "sleep", "60")
    sample = next(iter(alice_api.fetch_job_metrics(job_id=job.id, namespace="alice")))
    alice_api.cancel_job(job_id=job.id, namespace="alice")

    assert sample["cpu_millicores"] == 2000
    with hub_emulator.open_client() as client:
        assert client.get(f"/api/jobs/alice/{job.id}/metrics").status_code == 406


def test_a_rerun_is_a_new_job_that_says_what_it_repeats(alice_api: HfApi) -> None:
    """Labels are copied too, so this is how a copy is told from the original."""
    job = run_command(alice_api, "sh", "-c", "echo once more", labels={"a": "b"})

    copy = wait_until_over(alice_api, alice_api.rerun_job(job_id=job.id, namespace="alice"))

    assert copy.id != job.id
    assert read_log_lines(alice_api, copy) == ["once more"]
    assert (copy.labels or {})["a"] == "b"
    assert copy.initiator is not None
    assert (copy.initiator.type, copy.initiator.id) == ("duplicated-job", job.id)


def test_durations_add_up(alice_api: HfApi) -> None:
    """Cost is worked out from them."""
    durations = wait_until_over(alice_api, run_command(alice_api, "sleep", "1")).durations

    assert durations is not None
    assert durations.running_secs in {1, 2}
    assert durations.total_secs in {1, 2, 3}
