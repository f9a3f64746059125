"""What the Hub is asked for: what the client library would ask for, and what only we add."""

import importlib
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from huggingface_hub import Volume

from schema.accounts.vault import Secret
from schema.jobs.run_launch import ClaimedJob
from schema.specs.hub_job import HubJobSpec
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.hub.recording_hub import RecordingHub
from tests.support.jobs.hub_runs import (
    create_upstream_job,
    ignore_progress,
    make_rows_due,
    poll_namespace,
    read_stage,
    read_status,
)
from tests.support.polling import wait_until
from workers.context import Worker
from workers.executor import ExecutionRequest
from workers.executors.hub_job import HubJobExecutor
from workers.hub.client import HubJobsClient
from workers.loops.reconcile_runs import reconcile_runs

LIBRARY: Any = importlib.import_module("huggingface_hub._jobs_api")
FULL_SPEC: dict[str, Any] = {
    "image": "https://huggingface.co/spaces/ada/app",
    "command": ["serve", "--port", "8000"],
    "flavor": "t4-small",
    "timeout": "1h30m",
    "attempts": 3,
    "env": {"MODE": "fast"},
    "secrets": ["KEY"],
    "token_as": ["MINE"],
    "volumes": ["hf://datasets/ada/set/train:/data", "hf://buckets/ada/b:/out"],
    "resource_group_id": "66b2" * 6,
    "expose": [8000, 7000],
    "ssh": True,
}
LIBRARY_REQUEST: dict[str, Any] = {
    "image": "https://huggingface.co/spaces/ada/app",
    "command": ["serve", "--port", "8000"],
    "flavor": "t4-small",
    "timeout": 5400,
    "attempts": 3,
    "env": {"MODE": "fast"},
    "secrets": {"KEY": "s", "MINE": "hf_ada"},
    "volumes": [
        Volume(type="dataset", source="ada/set", mount_path="/data", path="train", read_only=True),
        Volume(type="bucket", source="ada/b", mount_path="/out", read_only=False),
    ],
    "resource_group_id": "66b2" * 6,
    "expose": [7000, 8000],
    "ssh": True,
}


async def read_sent_request(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what the Hub is sent, apart from what every run has for itself."""
    recorder = RecordingHub()
    stored = HubJobSpec.model_validate(spec).to_stored_json()
    secrets = {"KEY": Secret("s")} if "secrets" in spec else {}
    within = timedelta(seconds=1)
    order = ExecutionRequest(
        uuid4(), uuid4(), "ada", stored, {}, Secret("hf_ada"), secrets, within, ignore_progress
    )
    await HubJobExecutor(cast("HubJobsClient", recorder)).execute(order)
    (body,) = recorder.bodies
    del body["environment"]["HOLDFAST_RUN"], body["labels"]
    return body


@pytest.mark.parametrize("work", [{"image": "x", "command": "true"}, {"script": "print(1)"}])
@pytest.mark.parametrize(
    ("env", "sent"), [({}, "1"), ({"PYTHONUNBUFFERED": ""}, ""), ({"PYTHONUNBUFFERED": "0"}, "0")]
)
async def test_what_python_prints_is_not_held_back_unless_the_caller_wants_that(
    work: dict[str, Any], env: dict[str, str], sent: str
) -> None:
    """Into a pipe, Python writes by the block: the log of a running job would stay empty."""
    body = await read_sent_request({**work, "env": env})

    assert body["environment"]["PYTHONUNBUFFERED"] == sent


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"image": "python:3.12", "command": "true", "timeout": 60},
            {"image": "python:3.12", "command": ["true"], "timeout": 60, "attempts": 1},
        ),
        (FULL_SPEC, LIBRARY_REQUEST),
    ],
)
async def test_a_request_is_what_the_client_library_sends(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """It speaks to the real Hub every day; only `PYTHONUNBUFFERED` is ours."""
    arguments: dict[str, Any] = dict.fromkeys(("env", "secrets", "flavor")) | theirs
    expected = LIBRARY._create_job_spec(**arguments)  # what it sends is told nowhere else

    sent = await read_sent_request(ours)
    del sent["environment"]["PYTHONUNBUFFERED"]
    assert sent == expected


async def test_a_script_is_carried_in_variables_of_ours_beside_the_callers() -> None:
    """The caller's are as they were."""
    body = await read_sent_request({"script": "print(1)", "env": {"MODE": "fast"}})

    assert body["environment"].keys() == {"MODE", "HOLDFAST_SCRIPT_1", "PYTHONUNBUFFERED"}
    assert body["command"][:2] == ["sh", "-c"]
    assert body["dockerImage"].startswith("ghcr.io/astral-sh/uv:")


@pytest.mark.parametrize(
    ("uri", "volume"),
    [
        (
            "hf://datasets/ada/code@v1/jobs/train.py",
            {"type": "dataset", "source": "ada/code", "path": "jobs", "revision": "v1"},
        ),
        ("hf://buckets/ada/b/train.py", {"type": "bucket", "source": "ada/b"}),
    ],
)
async def test_a_script_at_the_hub_is_run_from_its_folder_which_is_mounted_to_be_read(
    uri: str, volume: dict[str, Any]
) -> None:
    """uv sends no token: the mount is what makes a private script readable, and no other."""
    body = await read_sent_request({"script": uri, "script_args": ["--fast"]})

    assert body["volumes"] == [{**volume, "mountPath": "/holdfast-script", "readOnly": True}]
    assert body["command"] == ["uv", "run", "/holdfast-script/train.py", "--fast"]
    assert body["environment"].keys() == {"PYTHONUNBUFFERED"}


async def test_addresses_are_kept_however_a_run_is_found(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """The answer that told of them may have been lost."""
    spec = {"image": "x", "command": ["sleep", "600"], "expose": [8000], "ssh": True}
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim, spec)

    await reconcile_runs(worker)

    reached = (await read_status(worker, unconfirmed_claim)).addresses
    assert reached == {
        "exposed": ["http://127.0.0.1:8000"],
        "ssh": f"ssh://{remote_id}@ssh.hf.jobs",
    }
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET addresses = NULL")
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "RUNNING")
    await make_rows_due(worker, "poll_group")
    await poll_namespace(worker)
    assert (await read_status(worker, unconfirmed_claim)).addresses == reached
