"""What a job of the local Hub reads from a bucket that it mounts, and what it leaves there."""

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest
from huggingface_hub import HfApi, JobInfo, Volume
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from tests.support.hub.emulator_process import (
    HubEmulatorProcess,
    read_log_lines,
    read_sizes,
    run_hub_emulator,
    stream_job_events,
    wait_until_over,
)
from tests.support.polling import wait_until

FLUSH_SECONDS = 0.7


@pytest.fixture(scope="module")
def slow_flush_hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """A Hub whose buckets get what a job has written most of a second later."""
    with run_hub_emulator(
        tmp_path_factory.mktemp("hub"), scheduling_seconds=0.05, flush_seconds=FLUSH_SECONDS
    ) as running:
        yield running


@pytest.fixture
def alice_api(slow_flush_hub: HubEmulatorProcess) -> HfApi:
    return slow_flush_hub.api()


@pytest.fixture
def bucket(alice_api: HfApi) -> str:
    return alice_api.create_bucket(f"alice/b-{uuid4().hex[:8]}", private=True).bucket_id


def run_script(api: HfApi, bucket: str, script: str, *, read_only: bool = False) -> JobInfo:
    """Run a script that has a folder of a bucket at $OUT."""
    volume = Volume(
        type="bucket", source=bucket, mount_path="/out", path="work", read_only=read_only
    )
    return api.run_job(
        image="python:3.12",
        command=["sh", "-c", script, "/out/name"],
        env={"OUT": "/out"},
        volumes=[volume],
        namespace="alice",
        timeout=60,
    )


def test_a_job_reads_what_is_in_its_folder_and_leaves_what_it_writes_there(
    alice_api: HfApi, bucket: str, tmp_path: Path
) -> None:
    """The mount path is at hand where it begins an argument or the value of a variable."""
    alice_api.batch_bucket_files(
        bucket, add=[(b"seven", "work/in"), (b"x", "work/old"), (b"y", "no")]
    )

    script = "cat $OUT/in; mkdir $OUT/sub; cp $OUT/in $OUT/sub/copy; rm $OUT/old; ls $OUT; echo $0"
    job = wait_until_over(alice_api, run_script(alice_api, bucket, script))

    assert job.status.stage == "COMPLETED"
    assert job.volumes == [
        Volume(type="bucket", source=bucket, mount_path="/out", path="work", read_only=False)
    ]
    assert read_sizes(alice_api, bucket).keys() == {
        "no",
        "work/in",
        "work/old",
    }  # nothing is there yet
    wait_until(lambda: read_sizes(alice_api, bucket).keys() == {"no", "work/in", "work/sub/copy"})
    alice_api.download_bucket_files(bucket, [("work/sub/copy", tmp_path / "copy")])
    assert (tmp_path / "copy").read_bytes() == b"seven"
    written = read_log_lines(alice_api, job)
    assert "sevenin" in "".join(written).replace("\n", "")
    assert written[-1].endswith("/name")
    assert not written[-1].startswith("/out")


def test_of_a_job_that_is_killed_only_what_it_wrote_long_before_survives(
    slow_flush_hub: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    """This is how results are lost on the Hub: written, and not yet uploaded."""
    script = "echo 1 > $OUT/early; sleep 1; echo 2 > $OUT/late; echo ready; sleep 60"
    job = run_script(alice_api, bucket, script)
    assert any(event["data"] == "ready" for event in stream_job_events(slow_flush_hub, job))

    alice_api.cancel_job(job_id=job.id, namespace="alice")

    wait_until(lambda: bool(read_sizes(alice_api, bucket)))
    assert read_sizes(alice_api, bucket).keys() == {"work/early"}


def test_what_is_written_where_one_may_only_read_goes_nowhere(
    alice_api: HfApi, bucket: str
) -> None:
    alice_api.batch_bucket_files(bucket, add=[(b"one", "work/a")])
    (before,) = alice_api.get_bucket_paths_info(bucket, ["work/a"])

    wait_until_over(
        alice_api,
        run_script(alice_api, bucket, "echo more >> $OUT/a; echo x > $OUT/b", read_only=True),
    )
    last = wait_until_over(alice_api, run_script(alice_api, bucket, "echo done > $OUT/done"))

    assert last.status.stage == "COMPLETED"
    wait_until(lambda: "work/done" in read_sizes(alice_api, bucket))
    assert read_sizes(alice_api, bucket).keys() == {"work/a", "work/done"}
    assert list(alice_api.get_bucket_paths_info(bucket, ["work/a"])) == [before]


def test_a_link_out_of_the_folder_is_not_followed(alice_api: HfApi, bucket: str) -> None:
    """Else a job could publish any file of this machine."""
    script = "ln -s /etc/hostname $OUT/link; ln -s /etc $OUT/folder; echo x > $OUT/file"

    wait_until_over(alice_api, run_script(alice_api, bucket, script))

    wait_until(lambda: bool(read_sizes(alice_api, bucket)))
    assert read_sizes(alice_api, bucket).keys() == {"work/file"}


def test_nobody_mounts_what_they_could_not_open(
    slow_flush_hub: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    """A volume is mounted with the authority of who starts the job."""
    for mine, source, refusal in (
        (True, "alice/nowhere", BadRequestError),
        (False, bucket, BadRequestError),
        (False, alice_api.create_bucket(f"alice/b-{uuid4().hex[:8]}").bucket_id, HfHubHTTPError),
    ):
        api = alice_api if mine else slow_flush_hub.api("bob")
        volume = Volume(type="bucket", source=source, mount_path="/out")
        with pytest.raises(refusal):
            api.run_job(
                image="x",
                command=["true"],
                volumes=[volume],
                namespace="alice" if mine else "bob",
            )
    assert list(slow_flush_hub.api("bob").list_jobs(namespace="bob")) == []
