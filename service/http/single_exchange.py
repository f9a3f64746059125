"""Transport of a tool call before 2026-07-28: one message in, one JSON document out, no session.

For each request of an older protocol the SDK (mcp 2.3.0) opens a session: four streams, a
dispatcher and three tasks, for one message. A request of 2026-07-28 it hands to `serve_one` at
once. This transport does the same with a call of a tool that is answered with JSON, because such a
call can use nothing of a session: it has no id, no way back, and no stream for progress.

    a call of a tool ──▶ serve_one: middleware, tool, shape of the version ──▶ the same bytes
    all else         ──▶ the transport of the SDK

What is not plainly such a call is left to the SDK, and to its words (ADR 28).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import anyio
import pydantic_core
import structlog
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    DEFAULT_NEGOTIATED_VERSION,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_VERSION_HEADER: Final = b"mcp-protocol-version"
_JSON: Final = "application/json"
_CALL_METHOD: Final = "tools/call"
_REQUEST_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})
_UNEXPECTED_ERROR_CODE: Final = 0
"""The code with which the SDK answers a bug outside of a tool, in these versions."""
_NO_WAY_BACK: Final = TransportContext(kind="streamable-http", can_send_request=False)

log = structlog.stdlib.get_logger()


class SingleExchangeTransport:
    """Answers calls of tools directly, and hands every other request to the SDK's transport."""

    def __init__(self, sessions: StreamableHTTPSessionManager) -> None:
        """Serve the server of a session manager that is stateless and answers with JSON."""
        self._server = sessions.app
        self._session_transport = sessions.handle_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first: list[Message] = [await receive()]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        request = Request(scope, replay)
        version = _find_old_version(scope)
        call = None if version is None else _parse_call(request, first[0])
        if version is None or call is None:
            await self._session_transport(scope, replay, send)
            return
        answer = await self._answer(call, version, request)
        body = answer.model_dump_json(by_alias=True, exclude_unset=True)
        # An error of the protocol has this status too: the older versions know no other.
        response = Response(body, HTTPStatus.OK, {"Content-Type": _JSON})
        await response(scope, receive, send)

    async def _answer(
        self, call: JSONRPCRequest, version: str, request: Request
    ) -> JSONRPCResponse | JSONRPCError:
        connection = Connection.from_envelope(version, None, None)
        exchange = SingleExchange(
            call.id, ServerMessageMetadata(request_context=request, can_send_request=False)
        )
        app = request.scope["app"].state.app
        try:
            result = await serve_one(
                self._server,
                exchange,
                call.method,
                call.params,
                connection=connection,
                lifespan_state=app,
            )
        except Exception as error:  # noqa: BLE001  # the boundary: no bug ends the connection
            return JSONRPCError(jsonrpc="2.0", id=call.id, error=_describe_error(error))
        return JSONRPCResponse(jsonrpc="2.0", id=call.id, result=result)


@dataclass(slots=True)
class SingleExchange:
    """A `DispatchContext` of the SDK without a way back: there is one answer, and nothing else."""

    request_id: RequestId
    message_metadata: ServerMessageMetadata
    transport: TransportContext = _NO_WAY_BACK
    can_send_request: bool = False

    @property
    def cancel_requested(self) -> anyio.Event:
        """An event that never comes: nobody can send a second message about this one."""
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        del params, opts
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Drop a notification: one JSON document has no room for it."""

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Drop the progress: a client that wants it and takes a stream has one."""


def _find_old_version(scope: Scope) -> str | None:
    """Return the version of a request; None if it is not one of those with a handshake."""
    for name, value in scope["headers"]:
        if name == _VERSION_HEADER:
            version: str = value.decode("latin-1")
            return version if version in HANDSHAKE_PROTOCOL_VERSIONS else None
    return DEFAULT_NEGOTIATED_VERSION


def _parse_call(request: Request, message: Message) -> JSONRPCRequest | None:
    """Return the call of a tool in a request; None if it is anything else, or hard to tell."""
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    takes_json, _ = check_accept_headers(request)
    if media_type != _JSON or not takes_json:
        return None
    try:
        members = pydantic_core.from_json(message.get("body", b""))
        # A member that a request does not have could make it a message of another kind.
        if not isinstance(members, dict) or not members.keys() <= _REQUEST_MEMBERS:
            return None
        call = JSONRPCRequest.model_validate(members, by_name=False)
    except (ValueError, ValidationError):
        return None
    return call if call.method == _CALL_METHOD else None


def _describe_error(error: Exception) -> ErrorData:
    """Say what the SDK's dispatcher says of an error."""
    described = handler_exception_to_error_data(error)
    if described is None:
        log.error("call.crashed", exc_info=error)
        described = ErrorData(code=_UNEXPECTED_ERROR_CODE, message=str(error))
    return described
