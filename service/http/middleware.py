"""What reaches the MCP server? Only what a verified caller posted, without the token it came with.

POST? → Host, Origin, Content-Type → token → rate → at most 1 MiB → scope → JSON, or SSE
 405          421, 403, 400         401, 503  429        413        403
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import structlog
from mcp.server.transport_security import (
    RequestBodyLimitMiddleware,
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from schema.accounts.vault import Secret
from schema.common.errors import Denied, HoldfastError, RateLimited, Unauthenticated, Unavailable
from service.auth.authenticators import Presented, SignIn
from service.auth.caller import InsufficientScope, Scope, TokenKind
from service.auth.client_info import calling_through, in_body, readable
from service.auth.resource_metadata import Metadata
from service.http.rate_limit import Limits, Standing
from service.runtime.context import CALLING, STILL_CALLING

MAX_BODY: Final = 6 * 1024 * 1024
"""Room for the items of a batch, and for the JSON around them."""
_FROM_NOBODY: Final = 64 * 1024
"""Bytes of whoever has not signed in, and may only look around."""
_CREDENTIALS: Final = ("authorization", "x-hf-authorization")
"""Where a token may be sent; `service.auth.authenticators` says what each is taken for."""
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
_WANTS_PROGRESS: Final = b'"progressToken"'
_BROWSING: Final = frozenset(
    {
        *("initialize", "notifications/initialized", "ping", "server/discover"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What somebody may do who has not signed in, if anything: see what there is, none of it theirs."""
_HOME: Final = ("127.0.0.1", "localhost", "[::1]")


class Edge:
    """The ASGI application at `/mcp`."""

    def __init__(
        self,
        public_url: str,
        metadata: Metadata,
        *,
        plain: ASGIApp,
        streaming: ASGIApp,
        needs: Mapping[str, Sequence[Scope]],
        browsable: bool = False,
    ) -> None:
        """Name the transports, what scopes tools and methods need, and whether anybody may list."""
        self._metadata = metadata
        self._browsable = browsable
        self._same_site = TransportSecurityMiddleware(_site(public_url))
        inside = _Inside(metadata, plain, streaming, needs)
        self._limited = RequestBodyLimitMiddleware(inside, MAX_BODY)
        self._from_nobody = RequestBodyLimitMiddleware(inside, _FROM_NOBODY)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # Stateless: there is no stream to GET, and no session to DELETE.
            refusal: Response | None = Response(status_code=405, headers={"allow": "POST"})
        else:
            refusal = await self._same_site.validate_request(Request(scope), is_post=True)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        with calling_through(readable(Headers(scope=scope).get("user-agent", ""))):
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Connection, receive: Receive, send: Send) -> None:
        sign_in: SignIn = scope["app"].state.sign_in
        presented = _presented(Headers(scope=scope))
        caller = None
        if not (presented.nothing and self._browsable):
            try:
                caller = await sign_in.of(presented)
            except (Unauthenticated, Denied, Unavailable) as error:
                refusal = self._refuse(error, token_sent=not presented.nothing)
                await refusal(scope, receive, send)
                return
            try:
                limits: Limits = scope["app"].state.limits
                standing = await limits.take(caller.subject_id)
            except RateLimited as error:
                left = Standing.of_refusal(error).headers()
                refused = _error(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", error, left)
                await refused(scope, receive, send)
                return
            send = _with(standing.headers(), send)
        calling = CALLING.set(caller)
        still_calling = STILL_CALLING.set(partial(sign_in.of, presented))
        subject = {"subject": caller.subject_id} if caller is not None else {}
        try:
            with structlog.contextvars.bound_contextvars(**subject):
                limited = self._from_nobody if caller is None else self._limited
                await limited({**scope, "headers": _clean(scope)}, receive, send)
        finally:
            STILL_CALLING.reset(still_calling)
            CALLING.reset(calling)

    def _refuse(self, error: HoldfastError, *, token_sent: bool) -> Response:
        if isinstance(error, Unavailable):
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "temporarily_unavailable"
            headers = {"retry-after": str(max(1, round(error.retry_after.total_seconds())))}
            return _error(status, code, error, headers)
        if isinstance(error, Unauthenticated):
            where = self._metadata.challenge(token_sent=token_sent)
            return _challenge(error, where)
        return _error(HTTPStatus.FORBIDDEN, "access_denied", error, {})


class _Inside:
    """What follows once the body is here: scopes, then the cheaper transport that will do."""

    def __init__(
        self,
        metadata: Metadata,
        plain: ASGIApp,
        streaming: ASGIApp,
        needs: Mapping[str, Sequence[Scope]],
    ) -> None:
        self._metadata = metadata
        self._plain = plain
        self._streaming = streaming
        self._needs = needs

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        # The limit before us has collected the whole body in one message.
        ahead: list[Message] = [await receive()]
        body: bytes = ahead[0].get("body", b"")

        async def replay() -> Message:
            return ahead.pop() if ahead else await receive()

        refusal = self._refusal(body)
        transport = self._streaming if _WANTS_PROGRESS in body else self._plain
        with calling_through(in_body(body)):
            await (refusal or transport)(scope, replay, send)

    def _refusal(self, body: bytes) -> Response | None:
        """Send whoever lacks a sign-in, or a scope they could get, to where it is given."""
        caller = CALLING.get()
        if caller is None:
            if all(method in _BROWSING for method, _ in _calls(body)):
                return None
            where = self._metadata.challenge(token_sent=False)
            return _challenge(Unauthenticated("Sign in first."), where)
        if not caller.obtainable:
            return None  # the tool itself says what a token lacks, where a model reads it
        for method, tool in _calls(body):
            needed = self._needs.get(tool or method, ())
            if caller.scopes.isdisjoint(needed):
                for scope in needed:
                    if scope in caller.obtainable:
                        lacking = InsufficientScope(scope, TokenKind.OAUTH)
                        return _challenge(lacking, self._metadata.step_up(scope))
        return None


class _Params(BaseModel):
    name: str = ""


class _Message(BaseModel):
    method: str = ""
    params: _Params = _Params()


_BODY: Final = TypeAdapter(_Message | list[_Message])


def _calls(body: bytes) -> list[tuple[str, str]]:
    """Return the methods of a message and the tools they call; what cannot be read calls none."""
    try:
        read = _BODY.validate_json(body)
    except ValidationError:
        return [("", "")]
    messages = read if isinstance(read, list) else [read]
    return [
        (message.method, message.params.name if message.method == "tools/call" else "")
        for message in messages
    ]


def _with(headers: Mapping[str, str], send: Send) -> Send:
    """Add headers to whatever is answered."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in headers.items()]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending if headers else send


def _challenge(error: Unauthenticated | InsufficientScope, where: str) -> Response:
    headers = {"www-authenticate": where}
    if isinstance(error, Unauthenticated):
        return _error(HTTPStatus.UNAUTHORIZED, error.problem, error, headers)
    return _error(HTTPStatus.FORBIDDEN, "insufficient_scope", error, headers)


def _error(
    status: HTTPStatus, code: str, error: HoldfastError, headers: dict[str, str]
) -> Response:
    return JSONResponse({"error": code, "error_description": str(error)}, status, headers)


def _presented(headers: Headers) -> Presented:
    found = [_BEARER.fullmatch(headers.get(name, "")) for name in _CREDENTIALS]
    return Presented(*(Secret(match[1]) if match else None for match in found))


def _clean(scope: Connection) -> list[tuple[bytes, bytes]]:
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
