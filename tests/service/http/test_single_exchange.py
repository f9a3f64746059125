"""A call that is answered without a session has the answer that the SDK gives it in one."""

import json
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import pytest
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.http.single_exchange import SingleExchangeTransport
from tests.support.http_server import serve_app
from tests.support.mcp.valid_arguments import complete_arguments
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_TOKEN, BOB_TOKEN

JSON: Final = "application/json"
JSON_OF_THE_SDK: Final = "application/json, application/json"
"""Means the same, and is written as only the transport of the SDK reads it."""
CHANGING: Final = (
    (re.compile(r"(job|ws|sched|upload)_[0-9a-z]{26}"), "HANDLE"),
    (re.compile(r"/uploads/[\w.-]+"), "LINK"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{20})?\b"), "DIGEST"),
    (re.compile(r"\b(ada|bob)\b"), "NAME"),
    (re.compile(r"5e9ecfc04957053f60648a3[ef]"), "SUBJECT"),
)
"""What differs between two people who do the same."""
LAUNCH: Final = {"image": "python:3.12", "command": ["true"], "flavor": "cpu-basic"}
CALL: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"text": "ü"}},
}
JOB_TOOLS: Final = (
    *("job_status", "job_logs", "job_result", "cancel_job", "retry_job", "list_jobs"),
)
MALFORMED_PARAMS: Final[list[Any]] = [
    {},
    {"name": None},
    {"name": "no_such_tool"},
    {"name": "job_status"},
    {"name": "job_status", "arguments": []},
    {"name": "job_status", "arguments": {"job_ids": 5, "other": 1}},
    {"name": "list_jobs", "arguments": None},
    {"name": "list_jobs", "arguments": {"limit": "many"}},
    {"name": "list_jobs", "arguments": {}, "requestState": "invented"},
    {"name": "list_jobs", "arguments": {}, "_meta": {"progressToken": [1]}},
    {"name": "list_jobs", "arguments": {}, "_meta": 5},
]


class Person:
    """Somebody whose calls are all answered in one way."""

    def __init__(self, url: str, token: str, media_type: str) -> None:
        self._endpoint = f"{url}/mcp"
        self._token = token
        self._media_type = media_type

    async def post(self, http: httpx2.AsyncClient, params: Any, version: str) -> httpx2.Response:
        """Post a call."""
        headers = {
            "authorization": f"Bearer {self._token}",
            "accept": JSON,
            "content-type": self._media_type,
            "mcp-protocol-version": version,
        }
        body = json.dumps(CALL | {"params": params})
        return await http.post(self._endpoint, content=body, headers=headers)


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
async def test_every_tool_answers_alike_in_both_ways(service_url: str, version: str) -> None:
    """The same bytes in each version: two people do the same, each in one of the ways."""
    ada = Person(service_url, ADA_TOKEN, JSON)
    bob = Person(service_url, BOB_TOKEN, JSON_OF_THE_SDK)
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:

        async def compare(params: Any, *, bob_params: Any = None) -> dict[str, Any]:
            direct = await ada.post(http, params, version)
            through_session = await bob.post(http, bob_params or params, version)
            for ours, theirs in zip(describe(direct), describe(through_session), strict=True):
                assert ours == theirs, params
            answer: dict[str, Any] = direct.json()
            answer["of bob"] = through_session.json()
            return answer

        for tool in await list_tools(http, service_url):
            required = tool["inputSchema"].get("required", [])
            await compare(
                {"name": tool["name"], "arguments": complete_arguments(tool["name"], required)}
            )
        launched = await compare({"name": "launch_job", "arguments": LAUNCH})
        jobs = find_handle(launched), find_handle(launched["of bob"])
        for name in JOB_TOOLS:
            calls = [{"name": name, "arguments": name_job(name, job)} for job in jobs]
            await compare(calls[0], bob_params=calls[1])
        for params in MALFORMED_PARAMS:
            await compare(params)


def describe(answer: httpx2.Response) -> list[str]:
    """Return what of an answer is the same for everybody, in pieces that a person can compare."""
    text = answer.text
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return [str(answer.status_code), answer.headers["content-type"], *text.split(",")]


def find_handle(answer: dict[str, Any]) -> str:
    """Return the handle of a launch, also in a version that has only text."""
    match = re.search(r"job_[0-9a-z]{26}", json.dumps(answer["result"]))
    assert match is not None, answer
    return match[0]


def name_job(tool: str, job: str) -> dict[str, Any]:
    """Return the arguments of a tool about one job."""
    match tool:
        case "job_status":
            return {"job_ids": [job]}
        case "list_jobs":
            return {"limit": 3}
        case _:
            return {"job_id": job}


async def list_tools(http: httpx2.AsyncClient, url: str) -> list[dict[str, Any]]:
    """List the tools as Ada sees them."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"authorization": f"Bearer {ADA_TOKEN}"}
    answer = await http.post(f"{url}/mcp", json=message, headers=headers)
    tools: list[dict[str, Any]] = answer.json()["result"]["tools"]
    return tools


class Wish(BaseModel):
    """What the tool `ask` would like to know."""

    text: str


async def echo(text: str) -> str:
    """Return the text."""
    return text


async def ask(ctx: Context[Any]) -> str:
    """Ask the person."""
    return str(await ctx.elicit("What?", Wish))


async def report(ctx: Context[Any]) -> str:
    """Report progress."""
    await ctx.report_progress(1, 2, "half")
    return "done"


async def crash() -> str:
    """Fail in a way that nobody has foreseen."""
    raise RuntimeError("a secret of the process")


async def break_down(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Have a bug outside of any tool."""
    if (ctx.params or {}).get("name") == "broken":
        raise ValueError("outside of a tool")
    return await call_next(ctx)


@pytest.fixture
def server() -> MCPServer[Any]:
    """A server whose tools use what a session would have."""
    server = MCPServer[Any]("plain", middleware=[break_down])
    for tool in (echo, ask, report, crash):
        server.add_tool(tool)
    server.streamable_http_app(stateless_http=True, json_response=True, host="0.0.0.0")  # noqa: S104  # binds nothing
    return server


@pytest.fixture
def plain_url(server: MCPServer[Any]) -> Generator[str]:
    """Where that server answers in each of the ways."""
    sessions = server.session_manager

    class Sessions:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await sessions.handle_request(scope, receive, send)

    @asynccontextmanager
    async def running(web: Starlette) -> AsyncGenerator[None]:
        web.state.app = None
        async with sessions.run():
            yield

    routes = [Route("/direct", SingleExchangeTransport(sessions)), Route("/session", Sessions())]
    with serve_app(Starlette(routes=routes, lifespan=running)) as url:
        yield url


async def test_what_a_tool_cannot_have_it_has_in_neither_way(plain_url: str) -> None:
    """A question, progress, a bug of a tool, and one outside of it: the bytes are the same."""
    params = {"arguments": {"text": "ü"}, "_meta": {"progressToken": 7}}
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        for tool in ("echo", "ask", "report", "crash", "broken", "no_such_tool"):
            body = CALL | {"id": "ü 7", "params": params | {"name": tool}}
            answers = [
                await http.post(f"{plain_url}/{way}", json=body) for way in ("direct", "session")
            ]

            direct, through_session = (
                (answer.status_code, {**answer.headers, "date": ""}, answer.content)
                for answer in answers
            )
            assert direct == through_session, tool
            assert b"a secret of the process" not in answers[0].content


async def answer_directly(
    server: MCPServer[Any], body: bytes, headers: dict[str, str], *, parts: int = 1
) -> bytes:
    """Answer a request on a server that has no session to offer.

    Raises:
        RuntimeError: the request needs a session.
    """
    answer: list[Message] = []

    async def collect(message: Message) -> None:
        answer.append(message)

    ends = [True, *[False] * (parts - 1)]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": not ends.pop()}

    web = Starlette()
    web.state.app = None
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "app": web, "headers": raw_headers}
    await SingleExchangeTransport(server.session_manager)(scope, receive, collect)
    return b"".join(message.get("body", b"") for message in answer)


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
async def test_a_call_of_an_old_version_needs_no_session(
    server: MCPServer[Any], version: str
) -> None:
    """Not even the default one has to be named."""
    headers = {"content-type": f"{JSON}; charset=utf-8", "accept": f"text/html, {JSON}"}
    for versions in ({"mcp-protocol-version": version}, {}):
        answer = await answer_directly(server, json.dumps(CALL).encode(), headers | versions)

        assert json.loads(answer)["result"]["content"] == [{"type": "text", "text": "ü"}]


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"method": "tools/list"}, {}),
        ({"method": "initialize"}, {}),
        ({"id": None}, {}),
        ({"id": 1.5}, {}),
        ({"jsonrpc": "1.0"}, {}),
        ({"params": []}, {}),
        ({"result": {}}, {}),
        ({"error": {"code": 1, "message": ""}}, {}),
        ({}, {"mcp-protocol-version": "2026-07-28"}),
        ({}, {"mcp-protocol-version": "tomorrow"}),
        ({}, {"accept": "text/event-stream"}),
        ({}, {"content-type": JSON_OF_THE_SDK}),
        ({}, {"content-type": "application/jsonp"}),
    ],
)
async def test_what_is_not_plainly_an_old_call_is_left_to_the_sdk(
    server: MCPServer[Any], changes: dict[str, Any], headers: dict[str, str]
) -> None:
    """The SDK refuses it in its own words, or serves it as it should be."""
    usual = {
        "content-type": JSON,
        "accept": JSON,
        "mcp-protocol-version": DEFAULT_NEGOTIATED_VERSION,
    }
    body = json.dumps(CALL | changes).encode()

    with pytest.raises(RuntimeError, match="Task group"):
        await answer_directly(server, body, usual | headers)


async def test_half_a_body_and_no_message_are_left_to_the_sdk(server: MCPServer[Any]) -> None:
    """A body in several parts, no JSON, and a list."""
    headers = {"content-type": JSON, "accept": JSON}
    for body, parts in ((json.dumps(CALL), 2), ("{", 1), (f"[{json.dumps(CALL)}]", 1)):
        with pytest.raises(RuntimeError, match="Task group"):
            await answer_directly(server, body.encode(), headers, parts=parts)
