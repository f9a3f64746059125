"""A stand-in for the Hub's whoami, and the service under test, each on a port of its own."""

import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service.local.hub_emulator.jobs.hardware import FLAVORS
from tests.support.subjects import ADA_ID, ADA_TOKEN, BOB_ID

SLEEPING_SPACE = "ada/asleep"
"""A Space."""


def whoami_answer(subject_id: str, name: str, **auth: Any) -> dict[str, Any]:
    """What the Hub says of a person."""
    given = auth or {"type": "access_token", "accessToken": {"role": "write"}}
    return {"type": "user", "id": subject_id, "name": name, "auth": given}


@dataclass
class FakeHub:
    """Answers whoami, and remembers who asked."""

    url: str = ""
    whoami_by_token: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "hf_ada": whoami_answer(ADA_ID, "ada"),
            "hf_bob": whoami_answer(BOB_ID, "bob"),
            "hf_reader": whoami_answer(
                ADA_ID, "ada", type="access_token", accessToken={"role": "read"}
            ),
        }
    )
    whoami_tokens: list[str] = field(default_factory=list)
    launch_checks: list[tuple[str, str]] = field(default_factory=list)
    """Whose permission to launch where was asked for."""
    denied_namespaces: dict[str, str] = field(default_factory=dict)
    """Namespaces in which nobody may launch, and what is said about it."""
    received_cookies: list[str] = field(default_factory=list[str])
    """Those that came along with a question; each answer gives one."""
    failure_response: Response | None = None
    hardware: list[dict[str, Any]] = field(
        default_factory=lambda: [flavor.to_dict() for flavor in FLAVORS.values()]
    )
    price_request_count: int = 0
    """How often somebody asked for prices."""
    answers_prices: bool = True
    space_lookups: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """By which token which Space was asked for."""
    answers_spaces: bool = True

    async def answer_whoami(self, request: Request) -> Response:
        """Answer like `GET /api/whoami-v2`."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.whoami_tokens.append(token)
        if self.failure_response is not None:
            return self.failure_response
        if token not in self.whoami_by_token:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        self.received_cookies += request.cookies
        known = JSONResponse(self.whoami_by_token[token])
        known.set_cookie("token", token)
        return known

    async def list_hardware(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/hardware`."""
        self.price_request_count += 1
        return JSONResponse(self.hardware) if self.answers_prices else Response(status_code=503)

    async def check_launch(self, request: Request) -> Response:
        """Answer like `POST /api/jobs/{namespace}/auth-check/write`."""
        namespace = request.path_params["namespace"]
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.launch_checks.append((token, namespace))
        if self.failure_response is not None:
            return self.failure_response
        if token not in self.whoami_by_token:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        if namespace in self.denied_namespaces:
            return JSONResponse({"error": self.denied_namespaces[namespace]}, 403)
        return JSONResponse({"namespace": {"name": namespace}})

    async def describe_space(self, request: Request) -> Response:
        """Answer like `GET /api/spaces/{owner}/{name}`: all there are sleep."""
        name = "{owner}/{name}".format(**request.path_params)
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.space_lookups.append((token, name))
        if not self.answers_spaces:
            return Response(status_code=503)
        if name.startswith("nobody/"):
            return JSONResponse({"error": "Repository not found"}, 404)
        runtime = {"stage": "SLEEPING"}
        return JSONResponse({"id": name, "subdomain": "ada-asleep", "runtime": runtime})


class _SignallingServer(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_event = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_event.set()


@contextmanager
def serve_app(app: ASGIApp, port: int = 0) -> Generator[str]:
    """Serve over HTTP, in a thread and a loop of its own; yield the URL."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = _SignallingServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert server.started_event.wait(15), "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


@contextmanager
def run_fake_hub() -> Generator[FakeHub]:
    """Run the stand-in."""
    whoami = FakeHub()
    check = "/api/jobs/{namespace}/auth-check/write"
    routes = [
        Route("/api/whoami-v2", whoami.answer_whoami),
        Route(check, whoami.check_launch, methods=["POST"]),
        Route("/api/jobs/hardware", whoami.list_hardware),
        Route("/api/spaces/{owner}/{name}", whoami.describe_space),
    ]
    with serve_app(Starlette(routes=routes)) as url:
        whoami.url = url
        yield whoami


@asynccontextmanager
async def open_mcp_client(
    url: str, token: str = ADA_TOKEN, **options: Any
) -> AsyncGenerator[Client]:
    """Open the SDK's client, as a person would."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
    ):
        yield client


async def call_tool(
    url: str, tool: str, *, caller_token: str = ADA_TOKEN, **arguments: Any
) -> CallToolResult:
    """Call one tool."""
    async with open_mcp_client(url, caller_token) as client:
        return await client.call_tool(tool, arguments)


async def call_for_result(
    url: str, tool: str, *, caller_token: str = ADA_TOKEN, **arguments: Any
) -> dict[str, Any]:
    """Call one tool that is expected to succeed; return the object it shows."""
    answer = await call_tool(url, tool, caller_token=caller_token, **arguments)
    assert not answer.is_error, answer_text(answer)
    view: dict[str, Any] = answer.structured_content
    return view


def answer_text(answer: CallToolResult) -> str:
    """Return the words of an answer."""
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


def read_refusal(answer: CallToolResult) -> dict[str, str]:
    """Return the machine-readable half of a refusal, which has no other structure."""
    assert answer.is_error
    assert answer.structured_content is None
    assert answer.meta is not None
    error: dict[str, str] = answer.meta["holdfast/error"]
    return error


async def post_message(
    url: str, method: str, params: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """Send one message of the legacy protocol: no handshake, no version, no session."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    given = {
        "authorization": f"Bearer {ADA_TOKEN}",
        "accept": "application/json, text/event-stream",
    }
    sent = {name.replace("_", "-"): value for name, value in (given | headers).items() if value}
    async with httpx2.AsyncClient(headers=sent) as http:
        return await http.post(f"{url}/mcp", json=message)
