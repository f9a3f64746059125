"""A job that was started by hand and adopted, through Postgres, a worker and the Hub emulator."""

from typing import Any

import pytest
from huggingface_hub import HfApi, JobInfo

from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from tests.support.polling import eventually
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture
def api(stack: Stack) -> HfApi:
    """The Hub's own client, signed in as Alice."""
    return HfApi(endpoint=stack.hub_url, token=load_users(stack.folder / "hub")[0].token)


def start(api: HfApi, *command: str, **options: Any) -> JobInfo:
    return api.run_job(image="python:3.12", command=list(command), namespace="alice", **options)


async def read_stage(api: HfApi, job: JobInfo) -> str:
    return api.inspect_job(job_id=job.id, namespace="alice").status.stage


async def test_a_running_job_is_watched_to_its_end_with_its_log_and_its_cost(
    alice: McpCaller, api: HfApi
) -> None:
    """From its adoption on it is a job like any other; what it printed before is there too."""
    job = start(
        api, "sh", "-c", "echo before; sleep 3; echo after", flavor="t4-small", timeout="10m"
    )
    adopted = await alice.call_tool("adopt_job", hub_job_id=job.id)

    view = await alice.wait_until_finished(adopted["job_id"])

    assert (view["state"], view["exit_code"], view["upstream"]) == ("succeeded", 0, "stopped")
    assert await alice.read_log(adopted["job_id"]) == ["before", "after"]
    assert (view["cost"]["so_far_usd"], view["cost"]["final"]) == (0.006667, True)
    assert view["started_at"] is not None


async def test_a_finished_job_can_be_adopted_and_run_again(alice: McpCaller, api: HfApi) -> None:
    """The retry has the same request; the first one ended before anybody here knew of it."""
    job = start(api, "sh", "-c", "echo $GREETING; exit 3", env={"GREETING": "hello"})
    await eventually(lambda: read_stage(api, job), lambda stage: stage == "ERROR")
    adopted = await alice.call_tool("adopt_job", hub_job_id=job.id)

    view = await alice.wait_until_finished(adopted["job_id"])
    again = await alice.call_tool("retry_job", job_id=adopted["job_id"])
    retried = await alice.wait_until_finished(again["job_id"])

    assert (view["state"], view["reason"], view["exit_code"]) == ("failed", "exit_nonzero", 3)
    assert view["log_tail"] == ["hello"]
    assert (retried["rerun_of"], retried["exit_code"]) == (adopted["job_id"], 3)
    assert retried["log_tail"] == ["hello"]
    assert retried["url"] != view["url"]


async def test_a_cancel_of_an_adopted_job_stops_it_at_the_hub(alice: McpCaller, api: HfApi) -> None:
    """It was not launched here, and is stopped here all the same."""
    job = start(api, "sleep", "600")
    adopted = await alice.call_tool("adopt_job", hub_job_id=job.id)

    await alice.call_tool("cancel_job", job_id=adopted["job_id"])

    await eventually(lambda: read_stage(api, job), lambda stage: stage == "CANCELED")
    view = await alice.wait_until(
        adopted["job_id"], lambda view: view["poll_after_seconds"] is None
    )
    assert (view["state"], view["upstream"]) == ("cancelled", "stopped")
