"""ASGI middleware at `/mcp`: passes on what a verified caller posted, without their token.

POST? → Host, Origin, Content-Type → toolsets → token → rate → at most 6 MiB → scope → JSON, or SSE
 405          421, 403, 400           400     401, 503  429        413        403

Whoever sends no token at all may list, and call what needs nobody, if the operator allows it. For
anything else they get the 401 that starts a sign-in.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final

import structlog
from mcp.server.transport_security import (
    RequestBodyLimitMiddleware,
    TransportSecurityMiddleware,
)
from mcp_types import DEFAULT_NEGOTIATED_VERSION
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from schema.accounts.vault import Secret
from schema.common.errors import (
    Denied,
    HoldfastError,
    Invalid,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from schema.common.http import retry_after_header
from service.auth.authenticators import Authenticator, RequestCredentials
from service.auth.caller import Caller, Scope, SignInLacksScope
from service.auth.client_info import bind_client, printable_name, read_client_info
from service.auth.resource_metadata import ProtectedResourceMetadata
from service.http.cross_origin import transport_security_settings
from service.http.messages import (
    Call,
    answer_batch,
    choose_media_type,
    is_batch,
    parse_calls,
    refuse_messages,
)
from service.http.rate_limit import RateLimiter, RateLimitStatus
from service.http.refusals import (
    refuse_for_rate,
    refuse_with_challenge,
    refuse_with_error,
    translate_sdk_refusals,
)
from service.http.request_options import RequestOptions, read_options
from service.runtime.context import CURRENT_CALLER, HELP_URI, REAUTHENTICATE, App, ScopeFinder
from service.runtime.request_ids import identify_request
from service.runtime.toolsets import CURRENT_SELECTION

MAX_BODY_BYTES: Final = 6 * 1024 * 1024
"""Enough for the items of a batch, and for the JSON around them."""
_MAX_ANONYMOUS_BODY_BYTES: Final = 64 * 1024
"""Enough for a caller who has not signed in, and may only look."""
_CREDENTIAL_HEADERS: Final = ("authorization", "x-hf-authorization")
"""Where a token may be sent; `service.auth.authenticators` says what each one is for."""
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
_PROGRESS_TOKEN_KEY: Final = b'"progressToken"'
_SIGN_IN_FIRST: Final = (
    "Nobody is signed in, and this needs somebody, so nothing was done. A client that can sign in "
    "does so now; give any other a token, in the header Authorization: Bearer …. The resource "
    f"{HELP_URI} says how."
)
_STEP_UP_VERSION: Final = "2025-11-25"
"""The first protocol version in which a 403 asks a client to sign in for more scopes."""
_ANONYMOUS_METHODS: Final = frozenset(
    {
        *("initialize", "ping", "server/discover"),
        *("notifications/initialized", "notifications/cancelled"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What a caller may do without a sign-in, beside public tools: list what everybody is shown."""


class McpEndpoint:
    """The ASGI application at `/mcp` and `/mcp/readonly`."""

    def __init__(
        self,
        public_url: str,
        metadata: ProtectedResourceMetadata,
        *,
        json_transport: ASGIApp,
        sse_transport: ASGIApp,
        required_scopes: Mapping[str, Sequence[Scope]],
        scope_finders: Mapping[str, ScopeFinder] | None = None,
        public_tools: Collection[str] = (),
        is_selected: Callable[[str], bool] = lambda _: True,
        allowed_origins: tuple[str, ...] = (),
        allow_browsing: bool = False,
        on_answer: Callable[[int], None] | None = None,
    ) -> None:
        """Assemble the endpoint.

        Args:
            public_url: the address of the service, without a trailing slash.
            metadata: writes the challenges.
            json_transport: answers with one JSON document.
            sse_transport: answers with a stream, which can carry progress.
            required_scopes: what each tool needs (any one of them), and each method by its name.
            scope_finders: what a call of each tool needs, by its arguments (all of them).
            public_tools: the names of the tools that need nobody.
            is_selected: whether the current connection has chosen a tool.
            allowed_origins: whose pages may call, besides our own and those of this machine.
            allow_browsing: whether a caller may look around without a sign-in.
            on_answer: called with the status of each answer.
        """
        self._on_answer = on_answer
        self._metadata = metadata
        self._allow_browsing = allow_browsing
        self._transport_security = TransportSecurityMiddleware(
            transport_security_settings(public_url, allowed_origins)
        )
        scope_check = _ScopeCheck(
            metadata,
            json_transport,
            sse_transport,
            required_scopes,
            scope_finders or {},
            frozenset(public_tools),
            is_selected,
        )
        self._authenticated_app = RequestBodyLimitMiddleware(scope_check, MAX_BODY_BYTES)
        self._anonymous_app = RequestBodyLimitMiddleware(scope_check, _MAX_ANONYMOUS_BODY_BYTES)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        identity = identify_request(Headers(scope=scope))
        if self._on_answer is not None:
            send = _with_status_listener(self._on_answer, send)
        send = translate_sdk_refusals(send)
        with identity.bind():
            await self._check_origin(scope, receive, _with_headers(identity.to_headers(), send))

    async def _check_origin(self, scope: Connection, receive: Receive, send: Send) -> None:
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
        try:
            options = read_options(scope)
        except Invalid as error:
            refusal = refuse_with_error(HTTPStatus.BAD_REQUEST, "invalid_toolsets", error, {})
            await refusal(scope, receive, send)
            return
        selection_token = CURRENT_SELECTION.set(options.selection)
        try:
            with bind_client(printable_name(Headers(scope=scope).get("user-agent", ""))):
                await self._authenticate(scope, receive, send, options)
        finally:
            CURRENT_SELECTION.reset(selection_token)

    async def _authenticate(
        self, scope: Connection, receive: Receive, send: Send, options: RequestOptions
    ) -> None:
        authenticator: Authenticator = scope["app"].state.authenticator
        headers = Headers(scope=scope)
        credentials = _read_credentials(headers)
        # A header that holds no token is a mistake, and never makes its sender nobody.
        is_anonymous = not any(name in headers for name in _CREDENTIAL_HEADERS)
        caller = None
        if not (is_anonymous and self._allow_browsing and not options.needs_sign_in):
            try:
                caller = await authenticator.authenticate(credentials)
            except (Unauthenticated, Denied, Unavailable) as error:
                refusal = self._refuse(error, headers.get("host", ""), token_sent=not is_anonymous)
                await refusal(scope, receive, send)
                return
        try:
            status = await _count_call(scope, caller)
        except RateLimited as error:
            await refuse_for_rate(error)(scope, receive, send)
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

    def _refuse(self, error: HoldfastError, host: str, *, token_sent: bool) -> Response:
        if isinstance(error, Unavailable):
            status, code = HTTPStatus.SERVICE_UNAVAILABLE, "temporarily_unavailable"
            return refuse_with_error(status, code, error, retry_after_header(error.retry_after))
        if isinstance(error, Unauthenticated):
            challenge = self._metadata.challenge_sign_in(host, token_sent=token_sent)
            return refuse_with_challenge(error, challenge)
        if isinstance(error, SignInLacksScope):
            challenge = self._metadata.challenge_scope_names(host, error.names)
            return refuse_with_challenge(error, challenge)
        return refuse_with_error(HTTPStatus.FORBIDDEN, "access_denied", error, {})


class _ScopeCheck:
    """Checks the scopes that a body needs, then takes the cheapest transport that can answer."""

    def __init__(
        self,
        metadata: ProtectedResourceMetadata,
        json_transport: ASGIApp,
        sse_transport: ASGIApp,
        required_scopes: Mapping[str, Sequence[Scope]],
        scope_finders: Mapping[str, ScopeFinder],
        public_tools: frozenset[str],
        is_selected: Callable[[str], bool],
    ) -> None:
        self._scope_finders = scope_finders
        self._is_selected = is_selected
        self._public_tools = public_tools
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

        headers = Headers(scope=scope)
        answer: ASGIApp | None = refuse_messages(body, headers)
        if answer is None:
            answer = await self._check_scopes(scope, body)
        with bind_client(read_client_info(body)):
            if answer is None and is_batch(body):
                answer = await self._count_and_answer_batch(body, scope)
            if answer is None:
                accept, as_stream = choose_media_type(
                    headers, wants_progress=_PROGRESS_TOKEN_KEY in body
                )
                scope = _with_accept(scope, accept)
                answer = self._sse_transport if as_stream else self._json_transport
            await answer(scope, replay, send)

    async def _count_and_answer_batch(self, body: bytes, scope: Connection) -> Response:
        """Answer a batch; each of its messages is a call, and the first one has been counted."""
        caller = CURRENT_CALLER.get()
        try:
            for _ in parse_calls(body)[1:]:
                await _count_call(scope, caller)
        except RateLimited as error:
            return refuse_for_rate(error)
        return await answer_batch(
            body, _with_accept(scope, "application/json"), self._json_transport
        )

    async def _check_scopes(self, scope: Connection, body: bytes) -> Response | None:
        """Challenge a caller who lacks a sign-in, or a scope that a new sign-in would give."""
        caller = CURRENT_CALLER.get()
        host = Headers(scope=scope).get("host", "")
        if caller is None:
            if all(self._is_public(call) for call in parse_calls(body)):
                return None
            challenge = self._metadata.challenge_sign_in(host, token_sent=False)
            return refuse_with_challenge(Unauthenticated(_SIGN_IN_FIRST), challenge)
        if not caller.obtainable_scopes or not _knows_step_up(Headers(scope=scope)):
            return None  # the tool says what the token lacks, where a model reads it
        needed: frozenset[Scope] = frozenset()
        for call in parse_calls(body):
            needed |= await self._find_scopes(scope, caller, call)
        if missing := [each for each in Scope if each in needed & caller.obtainable_scopes]:
            error = caller.missing_scopes_error(*missing)
            return refuse_with_challenge(error, self._metadata.challenge_scopes(host, needed))
        return None

    def _is_public(self, call: Call) -> bool:
        """Return whether a call needs nobody."""
        if call.method == "tools/call":
            return call.tool in self._public_tools and self._is_selected(call.tool)
        return call.method in _ANONYMOUS_METHODS or call.resource == HELP_URI

    async def _find_scopes(self, scope: Connection, caller: Caller, call: Call) -> frozenset[Scope]:
        """Find the scopes that a call needs; of those of which one is enough, the first."""
        if call.tool and not self._is_selected(call.tool):
            return frozenset()  # it is answered as an unknown tool
        find_scopes = self._scope_finders.get(call.tool)
        if find_scopes is not None:
            app: App = scope["app"].state.app
            if needed := await find_scopes(app, caller, call.arguments):
                return needed
        sufficient = self._required_scopes.get(call.tool or call.method, ())
        return frozenset(sufficient[:1]) if caller.scopes.isdisjoint(sufficient) else frozenset()


def _knows_step_up(headers: Headers) -> bool:
    """Return whether a client signs in again after a 403.

    Those of an older protocol do not: mcp 1.17 ends its session, mcp-remote 0.1.29 never answers.
    """
    version = headers.get("mcp-protocol-version", DEFAULT_NEGOTIATED_VERSION)
    return version >= _STEP_UP_VERSION


async def _count_call(scope: Connection, caller: Caller | None) -> RateLimitStatus:
    """Count a call of a caller, or of the address of one who has not signed in.

    Raises:
        RateLimited: there were too many lately.
    """
    rate_limiter: RateLimiter = scope["app"].state.rate_limiter
    if caller is not None:
        return await rate_limiter.count_call(caller.subject_id)
    host, _ = scope.get("client") or ("", 0)
    return await rate_limiter.count_anonymous_call(host)


def _with_accept(scope: Connection, accept: str) -> Connection:
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
    return {**scope, "headers": [*headers, (b"accept", accept.encode("latin-1"))]}


def _with_status_listener(on_answer: Callable[[int], None], send: Send) -> Send:
    """Call a listener with the status of the response."""

    async def send_and_tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            on_answer(message["status"])
        await send(message)

    return send_and_tell


def _with_headers(headers: Mapping[str, str], send: Send) -> Send:
    """Add headers to every response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in headers.items()]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return send_with_headers if headers else send


def _read_credentials(headers: Headers) -> RequestCredentials:
    authorization, hf_authorization = (_read_token(headers, name) for name in _CREDENTIAL_HEADERS)
    is_malformed = hf_authorization is None and _CREDENTIAL_HEADERS[1] in headers
    return RequestCredentials(
        authorization, hf_authorization, is_hf_authorization_malformed=is_malformed
    )


def _read_token(headers: Headers, name: str) -> Secret | None:
    """Return the token of a header; two headers of one name hold none."""
    values = headers.getlist(name)
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return Secret(match[1]) if match else None


def _clean_headers(scope: Connection) -> list[tuple[bytes, bytes]]:
    """Leave the credentials out, and strip the spaces that httptools leaves around MCP headers."""
    return [
        (name, value.strip(b" \t") if name.startswith(b"mcp-") else value)
        for name, value in scope["headers"]
        if name.decode("latin-1") not in _CREDENTIAL_HEADERS
    ]
