"""The same tools, called the same way, say the same to every client at both protocol eras."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from schema import handles
from tests.interop.conftest import Ask, Seen, python
from tests.stack import Caller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(180)]

LEGACY, MODERN = "2025-11-25", "2026-07-28"
NEW = {"typescript v2, modern", "inspector, modern", "python, auto"}

MOVING = {"poll_after_seconds", "status_as_of", "summary"}
"""What may differ between two looks at a job that has not changed."""


@pytest.fixture
def clients(typescript: Callable[[str], Ask], inspector: Callable[[str], Ask]) -> dict[str, Ask]:
    return {
        "typescript v1": typescript("v1"),
        "typescript v2, legacy": typescript("v2-legacy"),
        "typescript v2, modern": typescript("v2-modern"),
        "inspector, legacy": inspector("legacy"),
        "inspector, modern": inspector("modern"),
    }


async def ask_all(
    clients: dict[str, Ask], alice: Caller, tool: str, arguments: dict[str, Any]
) -> dict[str, Seen]:
    """Ask through every client there is."""
    seen = {name: ask(alice.connection, tool, arguments) for name, ask in clients.items()}
    for mode in ("legacy", "auto"):
        seen[f"python, {mode}"] = await python(mode, alice.connection, tool, arguments)
    return seen


async def test_every_client_launches_and_sees_the_same_job(
    clients: dict[str, Ask], alice: Caller
) -> None:
    """A person changes clients; the work stays theirs, and stays one."""
    request = {
        "image": "python:3.12",
        "command": ["true"],
        "idempotency_key": f"interop-{uuid4()}",
    }

    launched = await ask_all(clients, alice, "launch_job", request)

    jobs = {name: (seen.structured or {}).get("job_id") for name, seen in launched.items()}
    assert len(set(jobs.values())) == 1, jobs
    (handle,) = set(jobs.values())
    assert isinstance(handle, str)
    await alice.finish(handle)
    shown = await ask_all(clients, alice, "job_status", {"job_ids": [handle]})
    views = {
        name: {
            field: value
            for field, value in (seen.structured or {"jobs": [{}]})["jobs"][0].items()
            if field not in MOVING
        }
        for name, seen in shown.items()
    }
    assert all(view == views["python, auto"] for view in views.values()), views
    assert all(seen.tools == shown["python, auto"].tools for seen in shown.values())
    spoken = {name: seen.version for name, seen in shown.items()}
    assert spoken == {name: MODERN if name in NEW else LEGACY for name in spoken}


async def test_every_client_is_told_the_same_when_a_call_fails(
    clients: dict[str, Ask], alice: Caller
) -> None:
    """An error is an answer that a model can act on, and no client chokes on its shape."""
    unknown = handles.write(handles.Kind.JOB, handles.new_id())

    told = await ask_all(clients, alice, "job_status", {"job_ids": [unknown]})

    assert all(seen.failed for seen in told.values())
    assert len({seen.text for seen in told.values()}) == 1
    assert unknown in told["python, auto"].text


async def test_a_bare_request_needs_no_handshake(alice: Caller) -> None:
    """Nothing is remembered between requests, so any process can answer any of them."""
    handle = await alice.run("true")
    finished = await alice.finish(handle)
    call = {"name": "job_status", "arguments": {"job_ids": [handle]}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {**alice.connection.headers, "Accept": "application/json, text/event-stream"}

    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        response = await http.post(alice.connection.endpoint, json=request)

    assert response.status_code == httpx2.codes.OK, response.text
    (view,) = response.json()["result"]["structuredContent"]["jobs"]
    assert {field: view[field] for field in view.keys() - MOVING} == {
        field: finished[field] for field in finished.keys() - MOVING
    }
