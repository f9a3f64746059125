"""Calls of a real Gradio app through the tools: what can be called, the call, its end."""

from typing import Any

import pytest

from service.local.hub_emulator.spaces.routes import PAUSED_SPACE, PUBLIC_SPACE
from service.local.hub_emulator.users import find_user, load_users
from service.local.stack import Stack
from tests.support.mcp.client import answer_text, call_tool, read_refusal
from tests.support.stack import McpCaller

pytestmark = [
    pytest.mark.xdist_group("stack"),
]

DOCUMENT = {"base64": "aGVsbG8=", "name": "hello.txt"}


@pytest.fixture
def alice_with_space(alice: McpCaller, space_url: str) -> McpCaller:
    """Alice, when there is no more waiting for the Space."""
    return alice


async def launch(caller: McpCaller, api_name: str, arguments: Any, **overrides: Any) -> str:
    """Call a Space and return the handle."""
    request = {"space": PUBLIC_SPACE, "api_name": api_name, "arguments": arguments}
    return str((await caller.call_tool("launch_space_call", **request | overrides))["job_id"])


async def call_for_refusal(
    stack: Stack, user_name: str = "alice", **arguments: Any
) -> tuple[str, str]:
    """Call a Space in a way that is refused; return the code and the words."""
    token = find_user(load_users(stack.folder / "hub"), user_name).token
    answer = await call_tool(stack.url, "launch_space_call", caller_token=token, **arguments)
    return read_refusal(answer)["code"], answer_text(answer)


async def test_a_call_of_a_space_leaves_what_it_gave_as_the_result(
    alice_with_space: McpCaller,
) -> None:
    """A job like any other: a handle, a state, a result that stays."""
    handle = await launch(alice_with_space, "/echo", {"text": "hello", "times": 2})

    view = await alice_with_space.wait_until_finished(handle)
    result = await alice_with_space.call_tool("job_result", job_id=handle)

    assert (view["state"], view["kind"]) == ("succeeded", "space_call")
    assert view["summary"].startswith("Succeeded: the Space local/tiny has answered.")
    assert result["result"]["outputs"] == [
        {"label": "Answer", "component": "Textbox", "value": "hellohello"}
    ]


async def test_what_can_be_called_is_shown_before_anything_is(
    alice_with_space: McpCaller, stack: Stack
) -> None:
    """A model that sees names, types and defaults need not guess; nothing is launched for that."""
    shown = await alice_with_space.call_tool("launch_space_call", space=PUBLIC_SPACE, dry_run=True)
    token = find_user(load_users(stack.folder / "hub"), "alice").token
    text = answer_text(
        await call_tool(
            stack.url, "launch_space_call", caller_token=token, space=PUBLIC_SPACE, dry_run=True
        )
    )

    assert (shown["dry_run"], shown["needs"]) == (True, [])
    for line in ("/echo(text: str, times: float = 1) -> Answer", "/upper(document: file)"):
        assert line in shown["notes"][0]
        assert line in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"api_name": "/ecco"}, "Invalid", "has no endpoint /ecco. Did you mean /echo"),
        ({"api_name": "/echo", "arguments": {"txt": 1}}, "Invalid", "has no parameter 'txt'"),
        ({"api_name": "/echo"}, "Invalid", "needs text too"),
        ({"arguments": {"text": "x"}}, "Invalid", "has several endpoints; name one in api_name"),
        ({"api_name": "/upper", "arguments": ["/etc/passwd"]}, "Invalid", "not an https://"),
        ({"space": PAUSED_SPACE}, "Conflict", "was paused by its owner"),
    ],
)
async def test_what_does_not_fit_is_refused_with_what_would(
    alice_with_space: McpCaller, stack: Stack, arguments: dict[str, Any], code: str, says: str
) -> None:
    """One round trip to get it right: the endpoints, their parameters, an example."""
    refusal_code, text = await call_for_refusal(stack, **{"space": PUBLIC_SPACE, **arguments})

    assert (refusal_code, says in text) == (code, True), text
    assert "Nothing was launched." in text or "so nothing was launched" in text
    if "space" not in arguments:
        assert "/echo(text: str, times: float = 1) -> Answer" in text
        assert 'For example: api_name="/echo", arguments={"text": ' in text


async def test_a_private_space_is_there_for_its_owner_alone(
    alice_with_space: McpCaller, stack: Stack
) -> None:
    """To anybody else it is not there, in the words of one that is not."""
    handle = await launch(alice_with_space, "/echo", {"text": "mine"}, space="alice/own")
    assert (await alice_with_space.wait_until_finished(handle))["state"] == "succeeded"

    foreign = await call_for_refusal(stack, "bob", space="alice/own")
    none = await call_for_refusal(stack, "bob", space="alice/won")

    assert foreign == (none[0], none[1].replace("alice/won", "alice/own"))
    assert foreign[0] == "Invalid"


async def test_how_far_a_call_is_shows_while_it_is_waited_for(alice_with_space: McpCaller) -> None:
    """The Space's own count of its steps, in every view of the job."""
    handle = await launch(alice_with_space, "/work", {"steps": 12, "pause": 0.3})

    view = await alice_with_space.wait_until(
        handle, lambda view: "of 12 finished (Working)" in view["summary"]
    )
    waited = await alice_with_space.call_tool(
        "wait_for_jobs", job_ids=[handle], since_version=view["version"], timeout_seconds=10
    )
    await alice_with_space.call_tool("cancel_job", job_id=handle)

    assert view["progress"]["total"] == 12
    assert waited["changed"] == [handle]


async def test_files_of_a_call_are_files_of_its_job(alice_with_space: McpCaller) -> None:
    """Bytes go there, and what comes back outlives the Space, which forgets it."""
    handle = await launch(alice_with_space, "/upper", {"document": DOCUMENT})
    assert (await alice_with_space.wait_until_finished(handle))["state"] == "succeeded"

    result = await alice_with_space.call_tool("job_result", job_id=handle)

    assert result["result"]["outputs"][0]["value"] == {"file": "upper.txt"}
    [file] = result["files"]
    assert (file["name"], file["size_bytes"], file["media_type"]) == ("upper.txt", 5, "text/plain")


async def test_an_error_of_the_app_is_the_evidence_and_a_retry_may_do_better(
    alice_with_space: McpCaller,
) -> None:
    """What the Space said, and which call to make with what changed."""
    failed = await launch(alice_with_space, "/fail", {"text": "7"})
    view = await alice_with_space.wait_until_finished(failed)
    quota = await alice_with_space.wait_until_finished(
        await launch(alice_with_space, "/quota", {"seconds": 60})
    )
    again = await alice_with_space.call_tool(
        "retry_job", job_id=failed, overrides={"api_name": "/echo", "arguments": ["better"]}
    )

    assert (view["state"], view["reason"]) == ("failed", "exit_nonzero")
    assert view["evidence"] == ["Holdfast saw: The Space local/tiny said: That will not do: 7"]
    assert "ended the call with an error" in view["summary"]
    assert quota["reason"] == "insufficient_credits"
    assert "ZeroGPU quota is used up for 2:05:11" in quota["summary"]
    assert (await alice_with_space.wait_until_finished(str(again["job_id"])))[
        "state"
    ] == "succeeded"


async def test_a_cancelled_call_is_seen_to_stop_at_the_space(alice_with_space: McpCaller) -> None:
    """Cancel frees what it would have gone on using, not just our interest in it."""
    handle = await launch(alice_with_space, "/count", {"name": "e2e", "upto": 1000, "pause": 0.1})
    running = await alice_with_space.wait_until(
        handle, lambda view: "partial" in view["summary"] and view["progress"]["partial"]
    )

    cancelled = await alice_with_space.call_tool("cancel_job", job_id=handle)
    await alice_with_space.wait_until(handle, lambda view: view["upstream"] == "stopped")

    async def reached() -> int:
        call = await launch(alice_with_space, "/reached", ["e2e"])
        await alice_with_space.wait_until_finished(call)
        result = await alice_with_space.call_tool("job_result", job_id=call)
        return int(result["result"]["outputs"][0]["value"])

    before = await reached()
    assert running["progress"]["partial"].startswith("1")
    assert cancelled["state"] == "cancelled"
    assert before < 1000
    assert await reached() <= before + 1


async def test_a_call_whose_worker_is_gone_is_in_doubt_and_not_made_again(
    alice_with_space: McpCaller, stack: Stack
) -> None:
    """It may have been carried out and charged for: a person decides whether to pay twice."""
    handle = await launch(alice_with_space, "/count", {"name": "lost", "upto": 1000, "pause": 0.1})
    await alice_with_space.wait_until(handle, lambda view: view["state"] == "running")

    stack.stop_worker()
    try:
        view = await alice_with_space.wait_until_finished(handle)
    finally:
        stack.start_worker()

    assert (view["state"], view["reason"]) == ("failed", "outcome_unknown")


async def test_what_no_price_bounds_is_refused_by_a_budget(
    alice_with_space: McpCaller, stack: Stack
) -> None:
    """A call of a Space has no price: the rule is that of every call."""
    workspace = await alice_with_space.call_tool(
        "create_workspace", name="bounded spaces", budget_usd=1
    )

    code, text = await call_for_refusal(
        stack,
        space=PUBLIC_SPACE,
        api_name="/echo",
        arguments=["x"],
        workspace_id=workspace["workspace_id"],
    )

    assert code == "BudgetExceeded"
    assert "The cost of this is not known" in text


async def test_a_call_repeated_under_its_key_finds_the_job_it_made(
    alice_with_space: McpCaller,
) -> None:
    """Even if nobody could make it any more."""
    request = {"idempotency_key": "space-once", "space": PUBLIC_SPACE}
    first = await launch(alice_with_space, "/echo", ["once"], **request)

    assert await launch(alice_with_space, "/echo", ["once"], **request) == first
