"""The log lines of a real service and a real worker: one for each call and each transition."""

import json
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest

from service.local.hub_emulator.users import find_user, load_users
from service.local.stack import Stack
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")

CLIENT: Final = "claude-code/2.1"


async def call(
    stack: Stack, tool: str, arguments: dict[str, Any], **headers: str
) -> httpx2.Response:
    """Call a tool with these headers."""
    user = find_user(load_users(stack.folder / "hub"), "alice")
    sent = {
        "authorization": f"Bearer {user.token}",
        "accept": "application/json, text/event-stream",
        "user-agent": CLIENT,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    params = {"name": tool, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{stack.url}/mcp", json=message, headers=sent)


def read_lines(stack: Stack, process: str, **facts: Any) -> list[dict[str, Any]]:
    """Return the lines of a process that have these facts."""
    log = Path(stack.folder / "logs" / f"{process}.log").read_text(encoding="utf-8")
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in log.splitlines() if line.startswith("{")
    ]
    return [line for line in lines if facts.items() <= line.items()]


async def test_a_request_is_followed_from_the_call_to_the_run_at_the_hub(
    stack: Stack, alice: McpCaller
) -> None:
    """Whoever asks what became of a call has one id, and finds every step of it."""
    request_id = uuid4().hex

    answer = await call(
        stack, "launch_job", {"image": "python:3.12", "command": ["true"]}, x_request_id=request_id
    )
    handle = answer.json()["result"]["structuredContent"]["job_id"]
    await alice.wait_until_finished(handle)

    user = find_user(load_users(stack.folder / "hub"), "alice")
    assert answer.headers["x-request-id"] == request_id
    [line] = read_lines(stack, "service", request_id=request_id, event="tool.called")
    assert line["milliseconds"] > 0
    assert {name: line[name] for name in ("tool", "handle", "outcome", "client", "subject")} == {
        "tool": "launch_job",
        "handle": handle,
        "outcome": "ok",
        "client": CLIENT,
        "subject": user.id,
    }
    moves = [
        (line["transition"], line["state"], line["request_id"])
        for process in ("service", "worker")
        for line in read_lines(stack, process, event="job.moved", job=handle)
    ]
    assert moves == [
        ("created", "queued", request_id),
        ("claimed", "launching", request_id),
        ("bound", "running", request_id),
        ("ended", "succeeded", request_id),
    ]
    [settled] = read_lines(stack, "worker", event="attempt.settled", job=handle)
    assert settled["request_id"] == request_id
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        listed = await http.get(
            f"{stack.hub_url}/api/jobs/{user.name}",
            headers={"authorization": f"Bearer {user.token}"},
        )
    labels = [job["labels"] for job in listed.json() if job["labels"].get("holdfast-job") == handle]
    assert [label["holdfast-request"] for label in labels] == [request_id]


async def test_a_cancel_has_the_id_of_its_own_request(stack: Stack) -> None:
    """Who cancelled a job is another question than who launched it."""
    ids = [uuid4().hex, uuid4().hex]
    launched = await call(
        stack,
        "launch_job",
        {"image": "python:3.12", "command": ["sleep", "60"]},
        x_request_id=ids[0],
    )
    handle = launched.json()["result"]["structuredContent"]["job_id"]

    await call(stack, "cancel_job", {"job_id": handle}, x_request_id=ids[1])

    [line] = read_lines(stack, "service", event="job.moved", job=handle, transition="cancelled")
    assert line["request_id"] == ids[1]


async def test_a_refusal_names_its_request_where_a_program_finds_it(stack: Stack) -> None:
    """A person pastes the refusal into a report; its id leads to the line."""
    answer = await call(stack, "cancel_job", {"job_id": "job_1"}, traceparent="x")

    result = answer.json()["result"]
    request_id = answer.headers["x-request-id"]
    assert result["isError"]
    assert result["_meta"]["holdfast/request_id"] == request_id
    [line] = read_lines(stack, "service", request_id=request_id, event="tool.called")
    assert (line["outcome"], line["tool"]) == ("Invalid", "cancel_job")
    assert "traceparent" not in answer.headers


async def test_also_who_is_turned_away_gets_an_id(stack: Stack) -> None:
    """A sign-in that fails is what people report most."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.post(f"{stack.url}/mcp", json={}, headers={"x-request-id": "mine"})

    assert (answer.status_code, answer.headers["x-request-id"]) == (401, "mine")
