"""Jobs of the local Hub, as the real client sees them."""

from pathlib import Path
from typing import Any

import psutil
import pytest
from huggingface_hub import HfApi, JobInfo
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, JobNotFoundError

from service.local.hub.users import TokenKind
from tests.service.local.hub.conftest import RunningHub, lines, over, running_hub, until

FAMILY = "sleep 600 & echo $!; sleep 600 & echo $!; echo $HOME; wait"
"""A shell that says the pids of two children and where it runs, and waits."""


def run(api: HfApi, *command: str, namespace: str = "alice", **options: Any) -> JobInfo:
    return api.run_job(
        image="python:3.12",
        command=list(command),
        namespace=namespace,
        **options,
    )


def family(api: HfApi, job: JobInfo) -> list[psutil.Process]:
    """Wait for a job to say who its children are."""
    until(lambda: len(lines(api, job)) == 3)
    return [psutil.Process(int(pid)) for pid in lines(api, job)[:2]]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_command_is_run_and_its_output_kept(alice: HfApi) -> None:
    """The log is real, and so is the exit code."""
    job = over(alice, run(alice, "sh", "-c", "echo out; echo err >&2; exit 0"))

    assert job.status.stage == "COMPLETED"
    assert sorted(lines(alice, job)) == ["err", "out"]


def test_a_failure_says_its_exit_code_as_the_hub_does(alice: HfApi) -> None:
    """Whoever parses the sentence must find the same parts in it."""
    job = over(alice, run(alice, "sh", "-c", "exit 3"))

    assert job.status.stage == "ERROR"
    assert job.status.message == "Job failed with exit code: 3. Reason: Error"


def test_a_command_that_does_not_exist_fails_by_itself(alice: HfApi) -> None:
    """As in a container: the job fails, the Hub does not."""
    job = over(alice, run(alice, "no-such-program"))

    assert job.status.message == "Job failed with exit code: 127. Reason: Error"


def test_nothing_of_this_machines_environment_reaches_a_job(
    alice: HfApi,
) -> None:
    """Secrets of whoever runs the Hub are not the caller's to read."""
    job = over(
        alice,
        run(alice, "sh", "-c", "env; pwd", env={"A1": "x"}, secrets={"TOKEN": "s"}),
    )

    said = lines(alice, job)
    names = {line.split("=")[0] for line in said if "=" in line}
    given = {"A1", "TOKEN", "PATH", "HOME", "LANG", "JOB_ID", "ACCELERATOR", "CPU_CORES", "MEMORY"}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == given
    assert f"HOME={said[-1]}" in said
    assert job.environment == {"A1": "x"}
    assert "s" not in str(job.secrets)


def test_a_timeout_ends_the_process_and_its_children(alice: HfApi) -> None:
    """The bill is bounded by what was asked for."""
    job = run(alice, "sh", "-c", FAMILY, timeout=2)
    children = family(alice, job)

    ended = over(alice, job)

    assert (ended.status.stage, ended.status.message) == ("ERROR", "Job timeout")
    until(lambda: all(is_gone(child) for child in children))


def test_a_cancel_ends_the_process_and_its_children(alice: HfApi) -> None:
    """Cancelled means that nothing goes on running."""
    job = run(alice, "sh", "-c", FAMILY)
    children = family(alice, job)

    alice.cancel_job(job_id=job.id, namespace="alice")
    alice.cancel_job(job_id=job.id, namespace="alice")

    assert over(alice, job).status.stage == "CANCELED"
    assert all(is_gone(child) for child in children)


def test_killing_the_hub_outright_ends_its_jobs(tmp_path: Path) -> None:
    """An emulator that leaves orphans behind would be worse than none."""
    with running_hub(tmp_path) as hub:
        job = run(hub.api(), "sh", "-c", FAMILY)
        children = family(hub.api(), job)
        home = Path(lines(hub.api(), job)[2])
        assert home.is_dir()

        hub.process.kill()

        until(lambda: all(is_gone(child) for child in children))
        until(lambda: not home.exists())


def test_attempts_are_counted_and_the_last_one_decides(alice: HfApi) -> None:
    """A failed attempt is not the end while another is allowed."""
    job = over(alice, run(alice, "sh", "-c", "echo again; exit 1", attempts=2))

    assert job.status.stage == "ERROR"
    assert lines(alice, job) == ["again", "again"]


def test_a_long_list_comes_in_pages_and_filters_by_label_and_stage(hub: RunningHub) -> None:
    """Whoever reads only the first page misses runs that cost money."""
    bob = hub.api("bob")
    ids = [
        run(bob, "true", namespace="bob", labels={"n": str(n), "all": "yes"}).id for n in range(23)
    ]

    listed = list(bob.list_jobs(namespace="bob", labels={"all": "yes"}))
    one = list(bob.list_jobs(namespace="bob", labels={"all": "yes", "n": "7"}))

    assert [job.id for job in listed] == ids[::-1]
    assert [job.id for job in one] == [ids[7]]
    until(lambda: not list(bob.list_jobs(namespace="bob", status=["RUNNING", "SCHEDULING"])))


def test_a_log_is_replayed_from_the_start_and_can_be_cut_to_its_tail(alice: HfApi) -> None:
    """Logs stay readable after the end."""
    job = over(alice, run(alice, "sh", "-c", "for n in 1 2 3 4; do echo $n; done"))

    assert lines(alice, job) == lines(alice, job) == ["1", "2", "3", "4"]
    tail = alice.fetch_job_logs(job_id=job.id, namespace="alice", tail=2)
    assert list(tail) == ["3", "4"]


def test_a_strangers_job_does_not_exist(hub: RunningHub, alice: HfApi) -> None:
    """Not found, exactly as a job that never was."""
    job = run(alice, "true")

    said = set[str]()
    for job_id in (job.id, "0" * 24):
        with pytest.raises(JobNotFoundError) as missing:
            hub.api("bob").inspect_job(job_id=job_id, namespace="alice")
        said.add(str(missing.value.server_message))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("name", "kind", "namespace", "status"),
    [
        ("alice", TokenKind.READ, "alice", 403),
        ("alice", TokenKind.WRITE, "bob", 403),
        ("carol", TokenKind.WRITE, "carol", 402),
    ],
)
def test_who_may_not_launch_is_told_why(
    hub: RunningHub, name: str, kind: TokenKind, namespace: str, status: int
) -> None:
    """The words are those of the Hub, for people search for them."""
    with pytest.raises(HfHubHTTPError) as refused:
        run(hub.api(name, kind), "true", namespace=namespace)

    assert refused.value.response.status_code == status
    assert refused.value.server_message


@pytest.mark.parametrize(
    "options",
    [
        {"flavor": "abacus"},
        {"env": {"_A": "x"}},
        {"labels": {"a b": "x"}},
        {"labels": {"a": "x.y"}},
    ],
)
def test_a_request_the_hub_would_refuse_is_refused(alice: HfApi, options: dict[str, Any]) -> None:
    """What passes here must pass there."""
    with pytest.raises(BadRequestError):
        run(alice, "true", **options)


def test_an_organisation_the_user_belongs_to_can_pay(hub: RunningHub) -> None:
    """The namespace decides who pays."""
    job = run(hub.api(), "true", namespace="acme")

    assert job.owner.name == "acme"
    assert job.url.endswith(job.id)
