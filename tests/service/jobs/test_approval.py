"""What a workspace wants a person to agree to is launched only once they have, by each tool."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp_types import CallToolResult, ElicitResult

from tests.support.hub.fake_hub import SLEEPING_SPACE
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    read_refusal,
)
from tests.support.mcp.users import ElicitedUser

JOB_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": "true"}
A10G_ARGUMENTS: dict[str, Any] = {**JOB_ARGUMENTS, "flavor": "a10g-small", "timeout": "30m"}
"""Half a dollar and a bit."""
CALL_ARGUMENTS: dict[str, Any] = {"model": "m/m", "inputs": "Hi"}

WorkspaceFactory = Callable[..., Awaitable[str]]


@pytest.fixture
def make_workspace(service_url: str) -> WorkspaceFactory:
    """Make a workspace that wants a person asked above a quarter of a dollar."""

    async def make(threshold: float | str = 0.25, **defaults: Any) -> str:
        made = await call_for_result(
            service_url, "create_workspace", name="llama", defaults=defaults
        )
        identity: str = made["workspace_id"]
        await call_for_result(
            service_url, "update_workspace", workspace_id=identity, confirm_above_usd=threshold
        )
        return identity

    return make


def read_sealed_token(answer: CallToolResult) -> str:
    """Return the confirmation token in a refusal."""
    assert read_refusal(answer)["code"] == "NeedsConfirmation"
    match = re.search(r'confirm="([^"]+)"', answer_text(answer))
    assert match is not None
    return match[1]


async def count_jobs(service: str) -> int:
    """Count the jobs there are."""
    return len((await call_for_result(service, "list_jobs"))["jobs"])


@pytest.mark.parametrize("threshold", [0.50001, "off"])
async def test_up_to_the_threshold_nobody_is_asked(
    service_url: str, make_workspace: WorkspaceFactory, threshold: float | str
) -> None:
    """A workspace that wants nobody asked is as one without the setting."""
    inside = {"workspace_id": await make_workspace(threshold)}

    assert (await call_for_result(service_url, "launch_job", **A10G_ARGUMENTS, **inside))[
        "state"
    ] == "queued"


@pytest.mark.parametrize(("word", "jobs"), [("accept", 1), ("decline", 0)])
async def test_a_client_that_can_ask_launches_once_or_not_at_all(
    service_url: str, make_workspace: WorkspaceFactory, word: Any, jobs: int
) -> None:
    """The person sees what it may cost, with what the workspace filled in."""
    workspace = await make_workspace(flavor="a10g-small")
    person = ElicitedUser(ElicitResult(action=word, content={"launch": True}))

    async with open_mcp_client(service_url, elicitation_callback=person) as client:
        await client.call_tool("launch_job", {**JOB_ARGUMENTS, "workspace_id": workspace})

    assert person.questions == [
        "a10g-small for up to 30m may cost $0.51; above $0.25 a person is asked first."
    ]
    assert await count_jobs(service_url) == jobs


@pytest.mark.parametrize(
    ("tool", "request_"),
    [
        ("launch_job", A10G_ARGUMENTS),
        ("launch_inference", CALL_ARGUMENTS),
        ("launch_space_call", {"space": SLEEPING_SPACE}),
    ],
)
async def test_a_client_that_cannot_ask_launches_in_two_steps(
    service_url: str, make_workspace: WorkspaceFactory, tool: str, request_: dict[str, Any]
) -> None:
    """One consent is one job, however often the second call is made; other work asks anew."""
    arguments = {**request_, "workspace_id": await make_workspace()}

    token = read_sealed_token(await call_tool(service_url, tool, **arguments))
    other = await call_tool(service_url, tool, **arguments | {"name": "other"}, confirm=token)
    assert await count_jobs(service_url) == 0
    first = await call_for_result(service_url, tool, **arguments, confirm=token)
    again = await call_for_result(service_url, tool, **arguments, confirm=token)

    assert read_sealed_token(other) != token
    assert first["job_id"] == again["job_id"]
    assert await count_jobs(service_url) == 1


async def test_a_retry_is_agreed_to_like_a_launch(
    service_url: str, make_workspace: WorkspaceFactory
) -> None:
    """Else whoever may not launch it runs a cheap one again, on more."""
    workspace = await make_workspace()
    old = (
        await call_for_result(service_url, "launch_job", **JOB_ARGUMENTS, workspace_id=workspace)
    )["job_id"]
    await call_for_result(service_url, "cancel_job", job_id=old)
    arguments: dict[str, Any] = {"job_id": old, "overrides": {"flavor": "a10g-small"}}

    cheap = await call_for_result(service_url, "retry_job", job_id=old)
    token = read_sealed_token(await call_tool(service_url, "retry_job", **arguments))
    dear = await call_for_result(service_url, "retry_job", **arguments, confirm=token)
    again = await call_for_result(service_url, "retry_job", **arguments, confirm=token)

    assert again["job_id"] == dear["job_id"]
    assert cheap["cost"]["ceiling_usd"] < 0.25
    assert (dear["flavor"], dear["rerun_of"]) == ("a10g-small", old)
    assert dear["cost"]["ceiling_usd"] == 0.50001


async def test_a_retry_is_bounded_like_a_launch(service_url: str) -> None:
    """What the first one was allowed to cost says nothing of what the second is."""
    old = (await call_for_result(service_url, "launch_job", **JOB_ARGUMENTS))["job_id"]
    await call_for_result(service_url, "cancel_job", job_id=old)
    arguments: dict[str, Any] = {"job_id": old, "overrides": {"flavor": "a10g-small"}}

    refused = await call_tool(service_url, "retry_job", **arguments, max_cost_usd=0.2)
    taken = await call_for_result(service_url, "retry_job", **arguments, max_cost_usd=0.6)

    assert "max_cost_usd is $0.20" in answer_text(refused)
    assert taken["cost"]["ceiling_usd"] == 0.50001


async def test_a_repeat_under_its_key_asks_nobody_again(
    service_url: str, make_workspace: WorkspaceFactory
) -> None:
    """It launches nothing; who lost the answer only wants to know the handle."""
    workspace = await make_workspace()
    arguments = {**A10G_ARGUMENTS, "workspace_id": workspace, "idempotency_key": "k"}
    first = await call_for_result(
        service_url,
        "launch_job",
        **arguments,
        confirm=read_sealed_token(await call_tool(service_url, "launch_job", **arguments)),
    )

    again = await call_for_result(service_url, "launch_job", **arguments)
    dearer = await call_tool(service_url, "launch_job", **arguments | {"timeout": "3h"})

    assert again["job_id"] == first["job_id"]
    assert read_refusal(dearer)["code"] == "IdempotencyConflict"


async def test_a_dry_run_asks_nobody(service_url: str, make_workspace: WorkspaceFactory) -> None:
    """It is how a model finds out what to tell the person."""
    arguments = {**A10G_ARGUMENTS, "workspace_id": await make_workspace()}

    assert (await call_for_result(service_url, "launch_job", **arguments, dry_run=True))[
        "ceiling_usd"
    ] == 0.50001


async def test_what_would_be_refused_is_not_put_to_anybody(
    service_url: str, make_workspace: WorkspaceFactory
) -> None:
    """A consent that leads to a refusal is worth nothing."""
    arguments = {**A10G_ARGUMENTS, "workspace_id": await make_workspace()}

    answer = await call_tool(service_url, "launch_job", **arguments, max_cost_usd=0.4)

    assert "max_cost_usd is $0.40" in answer_text(answer)
