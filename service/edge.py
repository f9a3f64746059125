"""What reaches the MCP server? Only what a verified caller posted, without the token it came with.

POST? → Host, Origin, Content-Type → token → at most 1 MiB → JSON, or SSE if progress is wanted
 405          421, 403, 400         401, 503      413
"""

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import structlog
from mcp.server.transport_security import (
    RequestBodyLimitMiddleware,
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schema.errors import HoldfastError, Unauthenticated, Unavailable
from schema.vault import Secret
from service.auth import metadata
from service.auth.callers import Callers
from service.context import CALLING

_MAX_BODY: Final = 1024 * 1024
_CREDENTIALS: Final = ("authorization", "x-hf-authorization")
"""Where a token may be sent; the first that carries one wins."""
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
_WANTS_PROGRESS: Final = b'"progressToken"'
_HOME: Final = ("127.0.0.1", "localhost", "[::1]")


class Edge:
    """The ASGI application at `/mcp`."""

    def __init__(self, public_url: str, *, plain: ASGIApp, streaming: ASGIApp) -> None:
        self._public_url = public_url
        self._same_site = TransportSecurityMiddleware(_site(public_url))
        self._limited = RequestBodyLimitMiddleware(_Transports(plain, streaming), _MAX_BODY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # Stateless: there is no stream to GET, and no session to DELETE.
            refusal: Response | None = Response(status_code=405, headers={"allow": "POST"})
        else:
            refusal = await self._same_site.validate_request(Request(scope), is_post=True)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        callers: Callers = scope["app"].state.callers
        token = _token(Headers(scope=scope))
        try:
            caller = await callers.of(token)
        except (Unauthenticated, Unavailable) as error:
            await self._refuse(error, token_sent=token is not None)(scope, receive, send)
            return
        calling = CALLING.set(caller)
        try:
            with structlog.contextvars.bound_contextvars(subject=caller.subject_id):
                await self._limited({**scope, "headers": _clean(scope)}, receive, send)
        finally:
            CALLING.reset(calling)

    def _refuse(self, error: HoldfastError, *, token_sent: bool) -> Response:
        if isinstance(error, Unavailable):
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "temporarily_unavailable"
            headers = {"retry-after": str(max(1, round(error.retry_after.total_seconds())))}
        else:
            status, code = HTTPStatus.UNAUTHORIZED, "invalid_token"
            headers = {
                "www-authenticate": metadata.challenge(self._public_url, token_sent=token_sent)
            }
        said = {"error": code, "error_description": str(error)}
        return JSONResponse(said, status, headers)


class _Transports:
    """Chooses the cheap transport, unless the caller wants to hear of progress."""

    def __init__(self, plain: ASGIApp, streaming: ASGIApp) -> None:
        self._plain = plain
        self._streaming = streaming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The limit before us has collected the whole body in one message.
        ahead: list[Message] = [await receive()]
        wanted = _WANTS_PROGRESS in ahead[0].get("body", b"")

        async def replay() -> Message:
            return ahead.pop() if ahead else await receive()

        await (self._streaming if wanted else self._plain)(scope, replay, send)


def _token(headers: Headers) -> Secret | None:
    for name in _CREDENTIALS:
        if match := _BEARER.fullmatch(headers.get(name, "")):
            return Secret(match[1])
    return None


def _clean(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Leave the credentials out, and strip what httptools leaves around the values MCP compares."""
    return [
        (name, value.strip(b" \t") if name.startswith(b"mcp-") else value)
        for name, value in scope["headers"]
        if name.decode("latin-1") not in _CREDENTIALS
    ]


def _site(public_url: str) -> TransportSecuritySettings:
    """Allow our public name, and this machine's own names at any port (against DNS rebinding)."""
    public = urlsplit(public_url)
    hosts = [public.netloc, *_HOME, *(f"{home}:*" for home in _HOME)]
    origins = [f"{public.scheme}://{public.netloc}"]
    origins += [f"http://{home}{port}" for home in _HOME for port in ("", ":*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
