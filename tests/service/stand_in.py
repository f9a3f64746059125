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

ADA = "5e9ecfc04957053f60648a3e"
BOB = "5e9ecfc04957053f60648a3f"
ASLEEP = "ada/asleep"
"""A Space."""
ADAS = "hf_ada"
"""The token that calls unless another is named."""


def person(subject_id: str, name: str, **auth: Any) -> dict[str, Any]:
    """What the Hub says of a person."""
    given = auth or {"type": "access_token", "accessToken": {"role": "write"}}
    return {"type": "user", "id": subject_id, "name": name, "auth": given}


@dataclass
class Whoami:
    """Answers whoami, and remembers who asked."""

    url: str = ""
    answers: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "hf_ada": person(ADA, "ada"),
            "hf_bob": person(BOB, "bob"),
            "hf_reader": person(ADA, "ada", type="access_token", accessToken={"role": "read"}),
        }
    )
    asked: list[str] = field(default_factory=list)
    checked: list[tuple[str, str]] = field(default_factory=list)
    """Whose permission to launch where was asked for."""
    denied: dict[str, str] = field(default_factory=dict)
    """Namespaces in which nobody may launch, and what is said about it."""
    cookies: list[str] = field(default_factory=list[str])
    """Those that came along with a question; each answer gives one."""
    failing: Response | None = None
    hardware: list[dict[str, Any]] = field(
        default_factory=lambda: [flavor.described() for flavor in FLAVORS.values()]
    )
    priced: int = 0
    """How often somebody asked for prices."""
    answers_prices: bool = True
    looked_for: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """By which token which Space was asked for."""
    answers_spaces: bool = True

    async def answer(self, request: Request) -> Response:
        """Answer like `GET /api/whoami-v2`."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.asked.append(token)
        if self.failing is not None:
            return self.failing
        if token not in self.answers:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        self.cookies += request.cookies
        known = JSONResponse(self.answers[token])
        known.set_cookie("token", token)
        return known

    async def list_hardware(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/hardware`."""
        self.priced += 1
        return JSONResponse(self.hardware) if self.answers_prices else Response(status_code=503)

    async def check(self, request: Request) -> Response:
        """Answer like `POST /api/jobs/{namespace}/auth-check/write`."""
        namespace = request.path_params["namespace"]
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.checked.append((token, namespace))
        if self.failing is not None:
            return self.failing
        if token not in self.answers:
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        if namespace in self.denied:
            return JSONResponse({"error": self.denied[namespace]}, 403)
        return JSONResponse({"namespace": {"name": namespace}})

    async def space(self, request: Request) -> Response:
        """Answer like `GET /api/spaces/{owner}/{name}`: all there are sleep."""
        name = "{owner}/{name}".format(**request.path_params)
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.looked_for.append((token, name))
        if not self.answers_spaces:
            return Response(status_code=503)
        if name.startswith("nobody/"):
            return JSONResponse({"error": "Repository not found"}, 404)
        runtime = {"stage": "SLEEPING"}
        return JSONResponse({"id": name, "subdomain": "ada-asleep", "runtime": runtime})


class _Server(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Generator[str]:
    """Serve over HTTP, in a thread and a loop of its own; yield the URL."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert server.up.wait(15), "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


@contextmanager
def whoami_server() -> Generator[Whoami]:
    """Run the stand-in."""
    whoami = Whoami()
    check = "/api/jobs/{namespace}/auth-check/write"
    routes = [
        Route("/api/whoami-v2", whoami.answer),
        Route(check, whoami.check, methods=["POST"]),
        Route("/api/jobs/hardware", whoami.list_hardware),
        Route("/api/spaces/{owner}/{name}", whoami.space),
    ]
    with serving(Starlette(routes=routes)) as url:
        whoami.url = url
        yield whoami


@asynccontextmanager
async def calling(url: str, token: str = ADAS, **options: Any) -> AsyncGenerator[Client]:
    """Open the SDK's client, as a person would."""
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
    ):
        yield client


async def call(url: str, tool: str, *, by: str = ADAS, **arguments: Any) -> CallToolResult:
    """Call one tool."""
    async with calling(url, by) as client:
        return await client.call_tool(tool, arguments)


async def shown(url: str, tool: str, *, by: str = ADAS, **arguments: Any) -> dict[str, Any]:
    """Call one tool that is expected to succeed; return the object it shows."""
    answer = await call(url, tool, by=by, **arguments)
    assert not answer.is_error, text(answer)
    view: dict[str, Any] = answer.structured_content
    return view


def text(answer: CallToolResult) -> str:
    """Return the words of an answer."""
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


def refusal(answer: CallToolResult) -> dict[str, str]:
    """Return the machine-readable half of a refusal, which has no other structure."""
    assert answer.is_error
    assert answer.structured_content is None
    assert answer.meta is not None
    error: dict[str, str] = answer.meta["holdfast/error"]
    return error


async def post(
    url: str, method: str, params: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """Send one message of the legacy protocol: no handshake, no version, no session."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    given = {"authorization": f"Bearer {ADAS}", "accept": "application/json, text/event-stream"}
    sent = {name.replace("_", "-"): value for name, value in (given | headers).items() if value}
    async with httpx2.AsyncClient(headers=sent) as http:
        return await http.post(f"{url}/mcp", json=message)
