"""Outputs of jobs, from the call that declares them to the file that somebody downloads."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from tests.support.programs import run_program
from tests.support.stack import McpCaller, without_worker

pytestmark = pytest.mark.xdist_group("stack")

WRITE_BOTH_OUTPUTS = (
    "mkdir $HOLDFAST_OUTPUTS/plots; cd $HOLDFAST_OUTPUTS; printf 123 > model.bin; date > plots/a"
)


@pytest.fixture
def hub_api(stack: Stack) -> HfApi:
    """The real client, signed in as who calls the tools."""
    return HfApi(endpoint=stack.hub_url, token=load_users(stack.folder / "hub")[0].token)


async def test_outputs_are_listed_in_the_result_and_can_be_downloaded(
    alice: McpCaller, hub_api: HfApi, tmp_path: Path
) -> None:
    """A job of a workspace leaves them in the folder of that; a retry has a folder of its own."""
    workspace = (await alice.call_tool("create_workspace", name="outputs"))["workspace_id"]
    declared = ["model.bin", "/outputs/plots/"]
    handle = await alice.launch(
        "sh", "-c", WRITE_BOTH_OUTPUTS, outputs=declared, workspace_id=workspace, flavor="t4-small"
    )

    view = await alice.wait_until_finished(handle)
    result = await alice.call_tool("job_result", job_id=handle)
    again = (await alice.call_tool("retry_job", job_id=handle))["job_id"]
    await alice.wait_until_finished(again)
    repeated = await alice.call_tool("job_result", job_id=again)

    assert view["state"] == "succeeded"
    folder = f"hf://buckets/alice/holdfast/{workspace}/{handle}"
    files = {file["name"]: file for file in result["files"]}
    assert files.keys() == {"model.bin", "plots/a"}
    model = files["model.bin"]
    assert (model["size_bytes"], model["uri"]) == (3, f"{folder}/model.bin")
    path = f"{workspace}/{handle}/model.bin"
    (there,) = hub_api.get_bucket_paths_info("alice/holdfast", [path])
    assert there.xet_hash == model["revision"]
    hub_api.download_bucket_files("alice/holdfast", [(path, tmp_path / "model.bin")])
    assert (tmp_path / "model.bin").read_bytes() == b"123"
    assert hub_api.bucket_info("alice/holdfast").private
    assert {file["uri"] for file in repeated["files"]} == {
        file["uri"].replace(handle, again) for file in result["files"]
    }


@pytest.mark.parametrize("in_workspace", [False, True])
async def test_a_later_job_mounts_the_outputs_of_an_earlier_one(
    alice: McpCaller, *, in_workspace: bool
) -> None:
    """Where they are is known from the handle on, so both are launched before either has run."""
    where, folder = {}, "hf://buckets/alice/holdfast"
    if in_workspace:
        workspace = (await alice.call_tool("create_workspace", name="chain"))["workspace_id"]
        where, folder = {"workspace_id": workspace}, f"{folder}/{workspace}"
    train = await alice.launch(
        "sh", "-c", "echo 0.93 > $HOLDFAST_OUTPUTS/score", outputs=["score"], **where
    )
    evaluate = await alice.launch(
        "cat", "/in/score", volumes=[f"{folder}/{train}:/in"], after=[train], **where
    )

    view = await alice.wait_until_finished(evaluate)

    assert view["state"] == "succeeded"
    assert await alice.read_log(evaluate) == ["0.93"]


async def test_a_job_that_leaves_nothing_fails_and_says_what_is_missing(
    stack: Stack, alice: McpCaller
) -> None:
    """Its worker is killed between the end of the job and the last look: it comes to the same."""
    with run_killed_worker(stack):
        handle = await alice.launch("sh", "-c", "echo 0.93", outputs=["model.bin", "plots/"])
        waiting = await alice.wait_until(handle, lambda view: view["stage"] == "COMPLETED")

    view = await alice.wait_until_finished(handle)

    assert waiting["state"] == "running"
    assert waiting["summary"].startswith("Completed at Hugging Face; its outputs are being looked")
    assert (view["state"], view["reason"], view["exit_code"]) == ("failed", "outputs_missing", 0)
    assert "did not leave all the outputs it declared" in view["summary"]
    result = await alice.call_tool("job_result", job_id=handle)
    (saw, *_) = result["evidence"]
    assert saw.startswith("Holdfast saw: Not in hf://buckets/alice/holdfast/job_")
    assert saw.endswith("after it had completed: model.bin, plots/.")
    assert "HOLDFAST_OUTPUTS" in result["next_step"]
    assert (result["files"], result["log_tail"]) == ([], ["0.93"])


@contextmanager
def run_killed_worker(stack: Stack) -> Generator[None]:
    """Run a worker in place of the stack's; at the end it is killed."""
    # It may be killed in the middle of a poll, and its work is free when its lease is over.
    environment = stack.environment | {"HOLDFAST_LEASE": "8s", "HOLDFAST_POST_TIMEOUT": "7s"}
    log = stack.folder / "logs" / "killed-worker.log"
    with (
        without_worker(stack),
        run_program("service", "worker", environment=environment, log=log) as worker,
    ):
        yield
        worker.kill()


async def test_a_launch_of_which_nothing_would_survive_says_so(alice: McpCaller) -> None:
    """Before hours of a GPU, and not after them."""
    request = {"image": "python:3.12", "command": ["true"], "flavor": "t4-small", "dry_run": True}

    without_outputs = await alice.call_tool("launch_job", **request)
    with_outputs = await alice.call_tool("launch_job", **request, outputs="model.bin")
    with_token = await alice.call_tool("launch_job", **request, pass_token=True)
    on_cpu = await alice.call_tool("launch_job", **request | {"flavor": "cpu-basic"})

    [note] = without_outputs["notes"]
    assert note.startswith("Nothing it makes is kept but its log")
    assert [each["notes"] for each in (with_outputs, with_token, on_cpu)] == [[], [], []]
    assert with_outputs["spec"]["outputs"] == ["model.bin"]
    assert with_outputs["spec"]["outputs_in"] == "alice/holdfast"
