"""A token endpoint of the Hub whose answers a test sets."""

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.http_server import serve_app

INVALID_GRANT: Final = (400, {"error": "invalid_grant"})


@dataclass
class TokenEndpoint:
    """The Hub's token endpoint: each refresh token is for one use, and the answers can be set."""

    url: str = ""
    used: list[str] = field(default_factory=list[str])
    """The refresh tokens that were sent."""
    next_access_token: str = "hf_next"
    rotates: bool = True
    failure: tuple[int, dict[str, Any]] | None = None
    gate: Event = field(default_factory=Event)
    """Cleared, it lets those who refresh wait."""
    was_called: Event = field(default_factory=Event)
    revoked: list[str] = field(default_factory=list[str])
    """The tokens that were revoked."""

    async def revoke(self, request: Request) -> Response:
        """Answer like a revocation endpoint (RFC 7009); the Hub has none."""
        self.revoked.extend(parse_qs((await request.body()).decode())["token"])
        return Response()

    async def drip(self, request: Request) -> Response:
        """Answer without end, each byte in time."""

        async def write() -> AsyncGenerator[bytes]:
            while not await request.is_disconnected():
                yield b" "
                await anyio.sleep(0.05)  # between two bytes: well within any limit of one read

        return StreamingResponse(write())

    async def refresh(self, request: Request) -> Response:
        """Answer like `POST /oauth/token`."""
        form = parse_qs((await request.body()).decode())
        token = form["refresh_token"][0]
        is_reused = token in self.used
        self.used.append(token)
        self.was_called.set()
        await anyio.to_thread.run_sync(self.gate.wait, 20)
        if self.failure is not None or is_reused:
            status, body = self.failure or INVALID_GRANT
            return JSONResponse(body, status)
        answer = {
            "access_token": self.next_access_token,
            "token_type": "bearer",
            "expires_in": 3600,
            "scope": "openid jobs",
        }
        if self.rotates:
            answer["refresh_token"] = f"refresh-{len(self.used)}"
        return JSONResponse(answer)


@contextmanager
def serve_token_endpoint(endpoint: TokenEndpoint) -> Generator[TokenEndpoint]:
    """Serve it; at the end, whoever waits at its gate is let go."""
    handlers = {"/token": endpoint.refresh, "/revoke": endpoint.revoke, "/drip": endpoint.drip}
    routes = [Route(path, handler, methods=["POST"]) for path, handler in handlers.items()]
    endpoint.gate.set()
    with serve_app(Starlette(routes=routes)) as endpoint.url:
        try:
            yield endpoint
        finally:
            endpoint.gate.set()
