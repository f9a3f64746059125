"""What a workspace wants a person to agree to is launched only once they have, by each tool."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp_types import CallToolResult, ElicitResult

from tests.service.person import Person
from tests.service.stand_in import ASLEEP, call, calling, refusal, shown, text

JOB: dict[str, Any] = {"image": "python:3.12", "command": "true"}
A10G: dict[str, Any] = {**JOB, "flavor": "a10g-small", "timeout": "30m"}
"""Half a dollar and a bit."""
CALL: dict[str, Any] = {"model": "m/m", "inputs": "Hi"}

Group = Callable[..., Awaitable[str]]


@pytest.fixture
def group(service: str) -> Group:
    """Make a workspace that wants a person asked above a quarter of a dollar."""

    async def make(threshold: float | str = 0.25, **defaults: Any) -> str:
        made = await shown(service, "create_workspace", name="llama", defaults=defaults)
        identity: str = made["workspace_id"]
        await shown(service, "update_workspace", workspace_id=identity, confirm_above_usd=threshold)
        return identity

    return make


def seal_in(answer: CallToolResult) -> str:
    """Take the seal out of a refusal."""
    assert refusal(answer)["code"] == "NeedsConfirmation"
    found = re.search(r'confirm="([^"]+)"', text(answer))
    assert found is not None
    return found[1]


async def launched(service: str) -> int:
    """Count the jobs there are."""
    return len((await shown(service, "list_jobs"))["jobs"])


@pytest.mark.parametrize("threshold", [0.50001, "off"])
async def test_up_to_the_threshold_nobody_is_asked(
    service: str, group: Group, threshold: float | str
) -> None:
    """A workspace that wants nobody asked is as one without the setting."""
    inside = {"workspace_id": await group(threshold)}

    assert (await shown(service, "launch_job", **A10G, **inside))["state"] == "queued"


@pytest.mark.parametrize(("word", "jobs"), [("accept", 1), ("decline", 0)])
async def test_a_client_that_can_ask_launches_once_or_not_at_all(
    service: str, group: Group, word: Any, jobs: int
) -> None:
    """The person sees what it may cost, with what the workspace filled in."""
    workspace = await group(flavor="a10g-small")
    person = Person(ElicitResult(action=word, content={"launch": True}))

    async with calling(service, elicitation_callback=person) as client:
        await client.call_tool("launch_job", {**JOB, "workspace_id": workspace})

    assert person.asked == [
        "a10g-small for up to 30m may cost $0.50001; above $0.25 a person is asked first."
    ]
    assert await launched(service) == jobs


@pytest.mark.parametrize(
    ("tool", "request_"),
    [
        ("launch_job", A10G),
        ("launch_inference", CALL),
        ("launch_space_call", {"space": ASLEEP}),
    ],
)
async def test_a_client_that_cannot_ask_launches_in_two_steps(
    service: str, group: Group, tool: str, request_: dict[str, Any]
) -> None:
    """One consent is one job, however often the second call is made; other work asks anew."""
    asked = {**request_, "workspace_id": await group()}

    seal = seal_in(await call(service, tool, **asked))
    other = await call(service, tool, **asked | {"name": "other"}, confirm=seal)
    assert await launched(service) == 0
    first = await shown(service, tool, **asked, confirm=seal)
    again = await shown(service, tool, **asked, confirm=seal)

    assert seal_in(other) != seal
    assert first["job_id"] == again["job_id"]
    assert await launched(service) == 1


async def test_a_retry_is_agreed_to_like_a_launch(service: str, group: Group) -> None:
    """Else whoever may not launch it runs a cheap one again, on more."""
    workspace = await group()
    old = (await shown(service, "launch_job", **JOB, workspace_id=workspace))["job_id"]
    await shown(service, "cancel_job", job_id=old)
    asked: dict[str, Any] = {"job_id": old, "overrides": {"flavor": "a10g-small"}}

    cheap = await shown(service, "retry_job", job_id=old)
    seal = seal_in(await call(service, "retry_job", **asked))
    dear = await shown(service, "retry_job", **asked, confirm=seal)
    again = await shown(service, "retry_job", **asked, confirm=seal)

    assert again["job_id"] == dear["job_id"]
    assert cheap["cost"]["ceiling_usd"] < 0.25
    assert (dear["flavor"], dear["rerun_of"]) == ("a10g-small", old)
    assert dear["cost"]["ceiling_usd"] == 0.50001


async def test_a_retry_is_bounded_like_a_launch(service: str) -> None:
    """What the first one was allowed to cost says nothing of what the second is."""
    old = (await shown(service, "launch_job", **JOB))["job_id"]
    await shown(service, "cancel_job", job_id=old)
    asked: dict[str, Any] = {"job_id": old, "overrides": {"flavor": "a10g-small"}}

    refused = await call(service, "retry_job", **asked, max_cost_usd=0.2)
    taken = await shown(service, "retry_job", **asked, max_cost_usd=0.6)

    assert "max_cost_usd is $0.20" in text(refused)
    assert taken["cost"]["ceiling_usd"] == 0.50001


async def test_a_repeat_under_its_key_asks_nobody_again(service: str, group: Group) -> None:
    """It launches nothing; who lost the answer only wants to know the handle."""
    workspace = await group()
    asked = {**A10G, "workspace_id": workspace, "idempotency_key": "k"}
    first = await shown(
        service, "launch_job", **asked, confirm=seal_in(await call(service, "launch_job", **asked))
    )

    again = await shown(service, "launch_job", **asked)
    dearer = await call(service, "launch_job", **asked | {"timeout": "3h"})

    assert again["job_id"] == first["job_id"]
    assert refusal(dearer)["code"] == "IdempotencyConflict"


async def test_a_dry_run_asks_nobody(service: str, group: Group) -> None:
    """It is how a model finds out what to tell the person."""
    asked = {**A10G, "workspace_id": await group()}

    assert (await shown(service, "launch_job", **asked, dry_run=True))["ceiling_usd"] == 0.50001


async def test_what_would_be_refused_is_not_put_to_anybody(service: str, group: Group) -> None:
    """A consent that leads to a refusal is worth nothing."""
    asked = {**A10G, "workspace_id": await group()}

    answer = await call(service, "launch_job", **asked, max_cost_usd=0.4)

    assert "max_cost_usd is $0.40" in text(answer)
