"""Ten everyday tasks, done in the fewest calls by an agent that follows the answers.

Each is done twice: by an agent that sees only the content of answers, and by one that sees only
their structured content.
"""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.agent.literal_agent import AgentRun, HostView, LiteralAgent, merge_repeated_waits
from tests.support.http_clients import AsyncHttpClient
from tests.support.stack import McpCaller

pytestmark = [pytest.mark.xdist_group("stack")]

IMAGE = "python:3.12"
RUN_TASK = "Run a command in a container"


@pytest.fixture(params=HostView)
async def agent(alice: McpCaller, request: pytest.FixtureRequest) -> AsyncGenerator[LiteralAgent]:
    """An agent that acts for Alice, and has just listed the tools; its host shows it one view."""
    endpoint = alice.connection.endpoint
    async with (
        AsyncHttpClient(headers=alice.connection.headers, timeout=60) as http,
        Client(streamable_http_client(endpoint, http_client=http)) as client,
    ):
        yield LiteralAgent(client, (await client.list_tools()).tools, request.param)


def check_run(agent_run: AgentRun, *tools: str) -> str:
    """Check which calls it took, waiting apart, and return the last answer.

    How often it waits is up to how long the work takes, so waits count as one.
    """
    assert merge_repeated_waits(agent_run.tools) == list(tools), "\n".join(agent_run.answers)
    return agent_run.answers[-1]


def python_command(code: str) -> dict[str, Any]:
    return {"image": IMAGE, "command": ["python", "-c", code]}


async def test_1_run_a_command_and_say_what_it_printed(agent: LiteralAgent) -> None:
    story = await agent.carry_out(
        f"{RUN_TASK} and tell me what it printed", **python_command("print(6 * 7)")
    )

    assert "42" in check_run(story, "launch_job", "wait_for_jobs", "job_result")


async def test_2_read_all_of_a_long_output(agent: LiteralAgent) -> None:
    """What does not fit the result is read to its end, page by page."""
    story = await agent.carry_out(
        RUN_TASK, **python_command("for n in range(900): print('line', n)"), max_calls=12
    )

    last = check_run(
        story, "launch_job", "wait_for_jobs", "job_result", *["job_logs"] * (len(story.calls) - 3)
    )
    pages = [
        answer
        for call, answer in zip(story.calls, story.answers, strict=True)
        if call.tool == "job_logs"
    ]
    printed = [line for page in pages for line in page.splitlines() if line.startswith("line ")]
    assert printed == [f"line {number}" for number in range(900)]
    assert "Nothing is left to do." in last


async def test_3_ask_a_model(agent: LiteralAgent) -> None:
    story = await agent.carry_out(
        "Have a model answer a question", model="local/echo", inputs="Name three rivers."
    )

    assert "Name three rivers." in check_run(
        story, "launch_inference", "wait_for_jobs", "job_result"
    )


async def test_4_a_command_that_needs_a_shell(agent: LiteralAgent) -> None:
    """The refusal writes the call that works; following it is enough."""
    story = await agent.carry_out(RUN_TASK, image=IMAGE, command="echo one && echo two")

    last = check_run(story, "launch_job", "launch_job", "wait_for_jobs", "job_result")
    assert "one\ntwo" in last


async def test_5_hardware_that_is_misspelt(agent: LiteralAgent) -> None:
    """What was meant is named, so one more call is all it takes."""
    story = await agent.carry_out(RUN_TASK, **python_command("print('ok')"), flavor="cpu-basc")

    assert "ok" in check_run(story, "launch_job", "launch_job", "wait_for_jobs", "job_result")


async def test_6_find_a_job_whose_handle_was_lost(agent: LiteralAgent, alice: McpCaller) -> None:
    marked = f"lost-{uuid4().hex[:8]}"
    handle = await alice.launch("true", labels={"experiment": marked})
    await alice.wait_until_finished(handle)
    story = await agent.carry_out(
        "List the jobs that I launched from another client", labels={"experiment": marked}
    )

    assert handle in story.answers[0]
    assert story.tools[0] == "list_jobs"


async def test_7_call_a_job_off_and_see_that_it_stopped(
    agent: LiteralAgent, alice: McpCaller
) -> None:
    """The bill stops; the agent does not go before it has seen that."""
    handle = await alice.launch("sleep", "600")
    await alice.wait_until(handle, lambda view: view["stage"] == "RUNNING")
    story = await agent.carry_out("Call this job off for good", job_id=handle)

    assert "seen to be over" in check_run(story, "cancel_job", "wait_for_jobs")


async def test_8_a_timeout_that_was_too_short(agent: LiteralAgent) -> None:
    """What failed is run again as the remedy says, with what would have helped."""
    story = await agent.carry_out(
        RUN_TASK,
        **python_command("import time; time.sleep(2.5); print('done')"),  # outruns its timeout
        timeout="2s",
    )

    last = check_run(
        story, "launch_job", "wait_for_jobs", "retry_job", "wait_for_jobs", "job_result"
    )
    assert "done" in last


async def test_9_what_a_launch_would_cost(agent: LiteralAgent) -> None:
    """Asked for a price, it launches nothing."""
    story = await agent.carry_out(
        RUN_TASK + ", but only check it and say what it can cost",
        **python_command("1"),
        flavor="a10g-small",
        timeout="1h",
        dry_run=True,
    )

    assert "$1.0" in check_run(story, "launch_job")


async def test_10_a_group_with_a_budget(agent: LiteralAgent) -> None:
    """What does not fit is refused with the timeout that does, which is the person's to accept."""
    made = await agent.carry_out(
        "Make a workspace, a group of jobs with a budget", name=uuid4().hex, budget_usd=0.5
    )
    workspace = made.answers[0].split()[0]
    story = await agent.carry_out(
        RUN_TASK,
        **python_command("print(1)"),
        flavor="a10g-small",
        timeout="2h",
        workspace_id=workspace,
    )

    assert made.tools == ["create_workspace"]
    assert story.tools[0] == "launch_job"
    assert "$2.0" in story.answers[0]
    assert 'timeout="' in story.answers[0]
