"""A schedule on the whole stack: a worker fires it, and the local Hub runs what it launched."""

from tests.support.polling import eventually
from tests.support.stack import McpCaller


async def test_what_a_schedule_fires_runs_and_finishes(alice: McpCaller) -> None:
    """Nobody launches it: the client only asked for a firing, and could have gone away."""
    work = {"image": "python:3.12", "command": ["sh", "-c", "echo $GREETING"], "timeout": "5m"}
    made = await alice.call_tool(
        "create_schedule", cron="@yearly", job=work | {"secrets": {"GREETING": "good morning"}}
    )
    schedule_id = made["schedule_id"]

    await alice.call_tool("update_schedule", schedule_id=schedule_id, run_now=True)

    async def fired() -> list[dict[str, object]]:
        answer = await alice.call_tool("list_jobs", schedule_id=schedule_id)
        jobs: list[dict[str, object]] = answer["jobs"]
        return jobs

    [job] = await eventually(fired, bool)
    over = await alice.wait_until_finished(str(job["job_id"]))
    gone = await alice.call_tool("delete_schedule", schedule_id=schedule_id)

    assert (over["state"], over["schedule_id"]) == ("succeeded", schedule_id)
    assert gone["schedule_id"] == schedule_id
    assert [each["job_id"] for each in await fired()] == [job["job_id"]]
