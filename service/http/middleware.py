"""ASGI middleware at `/mcp`: passes on what a verified caller posted, without their token.

POST? → Host, Origin, Content-Type → token → rate → at most 6 MiB → scope → JSON, or SSE
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
from schema.common.http import retry_after_header
from service.auth.authenticators import Authenticator, RequestCredentials
from service.auth.caller import InsufficientScope, Scope, TokenKind
from service.auth.client_info import bind_client, printable_name, read_client_info
from service.auth.resource_metadata import ProtectedResourceMetadata
from service.http.rate_limit import RateLimiter, RateLimitStatus
from service.runtime.context import CURRENT_CALLER, REAUTHENTICATE

MAX_BODY_BYTES: Final = 6 * 1024 * 1024
"""Enough for the items of a batch, and for the JSON around them."""
_MAX_ANONYMOUS_BODY_BYTES: Final = 64 * 1024
"""Enough for a caller who has not signed in, and may only list."""
_CREDENTIAL_HEADERS: Final = ("authorization", "x-hf-authorization")
"""Where a token may be sent; `service.auth.authenticators` says what each one is for."""
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
_PROGRESS_TOKEN_KEY: Final = b'"progressToken"'
_ANONYMOUS_METHODS: Final = frozenset(
    {
        *("initialize", "notifications/initialized", "ping", "server/discover"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What a caller may do without a sign-in, if anything: list what is the same for everybody."""
_LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")


class McpEndpoint:
    """The ASGI application at `/mcp`."""

    def __init__(
        self,
        public_url: str,
        metadata: ProtectedResourceMetadata,
        *,
        json_transport: ASGIApp,
        sse_transport: ASGIApp,
        required_scopes: Mapping[str, Sequence[Scope]],
        allow_browsing: bool = False,
    ) -> None:
        """Assemble the endpoint.

        Args:
            public_url: the address of the service, without a trailing slash.
            metadata: writes the challenges.
            json_transport: answers with one JSON document.
            sse_transport: answers with a stream, which can carry progress.
            required_scopes: what each tool needs (any one of them), and each method by its name.
            allow_browsing: whether a caller may list without a sign-in.
        """
        self._metadata = metadata
        self._allow_browsing = allow_browsing
        self._transport_security = TransportSecurityMiddleware(
            _transport_security_settings(public_url)
        )
        scope_check = _ScopeCheck(metadata, json_transport, sse_transport, required_scopes)
        self._authenticated_app = RequestBodyLimitMiddleware(scope_check, MAX_BODY_BYTES)
        self._anonymous_app = RequestBodyLimitMiddleware(scope_check, _MAX_ANONYMOUS_BODY_BYTES)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # Stateless: there is no stream to GET, and no session to DELETE.
            refusal: Response | None = Response(
                status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"}
            )
        else:
            refusal = await self._transport_security.validate_request(Request(scope), is_post=True)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        with bind_client(printable_name(Headers(scope=scope).get("user-agent", ""))):
            await self._authenticate(scope, receive, send)

    async def _authenticate(self, scope: Connection, receive: Receive, send: Send) -> None:
        authenticator: Authenticator = scope["app"].state.authenticator
        credentials = _read_credentials(Headers(scope=scope))
        caller = None
        if not (credentials.is_empty and self._allow_browsing):
            try:
                caller = await authenticator.authenticate(credentials)
            except (Unauthenticated, Denied, Unavailable) as error:
                refusal = self._refusal_response(error, token_sent=not credentials.is_empty)
                await refusal(scope, receive, send)
                return
            try:
                rate_limiter: RateLimiter = scope["app"].state.rate_limiter
                status = await rate_limiter.count_call(caller.subject_id)
            except RateLimited as error:
                headers = RateLimitStatus.from_refusal(error).to_headers()
                refusal = _error_response(
                    HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", error, headers
                )
                await refusal(scope, receive, send)
                return
            send = _with_headers(status.to_headers(), send)
        caller_token = CURRENT_CALLER.set(caller)
        reauthenticate_token = REAUTHENTICATE.set(partial(authenticator.authenticate, credentials))
        subject = {"subject": caller.subject_id} if caller is not None else {}
        try:
            with structlog.contextvars.bound_contextvars(**subject):
                inner_app = self._anonymous_app if caller is None else self._authenticated_app
                await inner_app({**scope, "headers": _clean_headers(scope)}, receive, send)
        finally:
            REAUTHENTICATE.reset(reauthenticate_token)
            CURRENT_CALLER.reset(caller_token)

    def _refusal_response(self, error: HoldfastError, *, token_sent: bool) -> Response:
        if isinstance(error, Unavailable):
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "temporarily_unavailable"
            return _error_response(status, code, error, retry_after_header(error.retry_after))
        if isinstance(error, Unauthenticated):
            challenge = self._metadata.challenge_sign_in(token_sent=token_sent)
            return _challenge_response(error, challenge)
        return _error_response(HTTPStatus.FORBIDDEN, "access_denied", error, {})


class _ScopeCheck:
    """Checks the scopes that a body needs, then takes the cheapest transport that can answer."""

    def __init__(
        self,
        metadata: ProtectedResourceMetadata,
        json_transport: ASGIApp,
        sse_transport: ASGIApp,
        required_scopes: Mapping[str, Sequence[Scope]],
    ) -> None:
        self._metadata = metadata
        self._json_transport = json_transport
        self._sse_transport = sse_transport
        self._required_scopes = required_scopes

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        # RequestBodyLimitMiddleware has collected the whole body in one message.
        buffered: list[Message] = [await receive()]
        body: bytes = buffered[0].get("body", b"")

        async def replay() -> Message:
            return buffered.pop() if buffered else await receive()

        refusal = self._check_scopes(body)
        transport = self._sse_transport if _PROGRESS_TOKEN_KEY in body else self._json_transport
        with bind_client(read_client_info(body)):
            await (refusal or transport)(scope, replay, send)

    def _check_scopes(self, body: bytes) -> Response | None:
        """Challenge a caller who lacks a sign-in, or a scope that a new sign-in would give."""
        caller = CURRENT_CALLER.get()
        if caller is None:
            if all(method in _ANONYMOUS_METHODS for method, _ in _parse_calls(body)):
                return None
            challenge = self._metadata.challenge_sign_in(token_sent=False)
            return _challenge_response(Unauthenticated("Sign in first."), challenge)
        if not caller.obtainable_scopes:
            return None  # the tool says what the token lacks, where a model reads it
        for method, tool in _parse_calls(body):
            required_scopes = self._required_scopes.get(tool or method, ())
            if caller.scopes.isdisjoint(required_scopes):
                for scope in required_scopes:
                    if scope in caller.obtainable_scopes:
                        error = InsufficientScope(scope, TokenKind.OAUTH)
                        return _challenge_response(error, self._metadata.challenge_scope(scope))
        return None


class _Params(BaseModel):
    name: str = ""


class _Message(BaseModel):
    method: str = ""
    params: _Params = _Params()


_MESSAGES: Final = TypeAdapter(_Message | list[_Message])


def _parse_calls(body: bytes) -> list[tuple[str, str]]:
    """Return the methods in a body, each with the tool it calls; neither if it is malformed."""
    try:
        parsed = _MESSAGES.validate_json(body)
    except ValidationError:
        return [("", "")]
    messages = parsed if isinstance(parsed, list) else [parsed]
    return [
        (message.method, message.params.name if message.method == "tools/call" else "")
        for message in messages
    ]


def _with_headers(headers: Mapping[str, str], send: Send) -> Send:
    """Add headers to every response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in headers.items()]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return send_with_headers if headers else send


def _challenge_response(error: Unauthenticated | InsufficientScope, challenge: str) -> Response:
    headers = {"www-authenticate": challenge}
    if isinstance(error, Unauthenticated):
        return _error_response(HTTPStatus.UNAUTHORIZED, error.problem, error, headers)
    return _error_response(HTTPStatus.FORBIDDEN, "insufficient_scope", error, headers)


def _error_response(
    status: HTTPStatus, code: str, error: HoldfastError, headers: dict[str, str]
) -> Response:
    return JSONResponse({"error": code, "error_description": str(error)}, status, headers)


def _read_credentials(headers: Headers) -> RequestCredentials:
    matches = [_BEARER.fullmatch(headers.get(name, "")) for name in _CREDENTIAL_HEADERS]
    return RequestCredentials(*(Secret(match[1]) if match else None for match in matches))


def _clean_headers(scope: Connection) -> list[tuple[bytes, bytes]]:
    """Leave the credentials out, and strip the spaces that httptools leaves around MCP headers."""
    return [
        (name, value.strip(b" \t") if name.startswith(b"mcp-") else value)
        for name, value in scope["headers"]
        if name.decode("latin-1") not in _CREDENTIAL_HEADERS
    ]


def _transport_security_settings(public_url: str) -> TransportSecuritySettings:
    """Allow the public host, and loopback hosts at any port (against DNS rebinding)."""
    public = urlsplit(public_url)
    hosts = [public.netloc, *_LOOPBACK_HOSTS, *(f"{host}:*" for host in _LOOPBACK_HOSTS)]
    origins = [f"{public.scheme}://{public.netloc}"]
    origins += [f"http://{host}{port}" for host in _LOOPBACK_HOSTS for port in ("", ":*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
