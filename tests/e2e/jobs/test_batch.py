"""A batch from its launch to its retry, through the tools, as a model uses them."""

from typing import Any

from tests.support.polling import eventually
from tests.support.stack import McpCaller


async def test_a_batch_is_launched_waited_for_read_called_off_and_run_again(
    alice: McpCaller,
) -> None:
    """Everything that can be done with a job can be done with a batch, by the same tools."""
    items = [{"custom_id": f"item-{n}", "inputs": f"say {n}"} for n in range(30)]
    launched = await alice.call_tool("launch_inference", model="local/echo", items=items)
    handle: str = launched["job_id"]

    status = await alice.wait_until_finished(handle)
    page = await alice.call_tool("job_result", job_id=handle, limit=5, cursor=20)

    assert (status["state"], status["kind"]) == ("succeeded", "batch")
    assert "30 of 30 finished." in status["summary"]
    assert status["progress"] == {"done": 30, "total": 30, "message": None, "partial": None}
    assert [item["custom_id"] for item in page["items"]["items"]] == [
        f"item-{n}" for n in range(20, 25)
    ]
    assert "said: say 20" in page["items"]["items"][0]["result"]["text"]
    assert page["result"]["usage"]["total_tokens"] > 0
    assert (await alice.read_log(handle)) == []

    slow: dict[str, Any] = {"model": "local/slow-1s", "items": items, "concurrency": 2}
    endless: str = (await alice.call_tool("launch_inference", **slow))["job_id"]

    async def result() -> dict[str, Any]:
        view: dict[str, Any] = (await alice.call_tool("job_result", job_id=endless))["result"]
        return view

    await eventually(result, lambda counted: counted["done"] >= 2)
    await alice.call_tool("cancel_job", job_id=endless)
    cancelled = await alice.wait_until(endless, lambda view: view["upstream"] == "stopped")
    left = await result()
    again = await alice.call_tool("retry_job", job_id=endless, overrides={"model": "local/echo"})

    assert cancelled["state"] == "cancelled"
    assert left["done"] >= 2
    finished = await alice.wait_until_finished(again["job_id"])
    assert finished["state"] == "succeeded"
    assert finished["progress"]["done"] == 30 - left["done"]
