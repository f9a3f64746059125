"""The JSON-RPC messages in a body: one, or in protocol 2025-03-26 a batch of them.

The SDK (mcp 2.3.0) takes a request whose id is null or a fraction for a notification, and leaves it
without an answer; and it knows no batches. Both are settled here, before a message reaches it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import pydantic_core
from mcp_types import DEFAULT_NEGOTIATED_VERSION, INVALID_REQUEST
from pydantic import BaseModel, StrictInt, StrictStr, TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Scope

_JSON: Final = "application/json"
_EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Call:
    """The call in a message; of a malformed one all names are empty."""

    method: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resource: str = ""


class _Params(BaseModel):
    name: str = ""
    uri: Any = None
    arguments: Any = None


class _Message(BaseModel):
    method: str = ""
    params: _Params = _Params()


class _Envelope(BaseModel):
    id: StrictInt | StrictStr = ""


_MESSAGES: Final = TypeAdapter(_Message | list[_Message])
_ENVELOPES: Final = TypeAdapter(_Envelope | list[_Envelope])


def parse_calls(body: bytes) -> list[Call]:
    """Return the calls in a body; an empty one if it is malformed."""
    try:
        parsed = _MESSAGES.validate_json(body)
    except ValidationError:
        return [Call()]
    return [_to_call(message) for message in (parsed if isinstance(parsed, list) else [parsed])]


def is_batch(body: bytes) -> bool:
    """Return whether a body is a list."""
    return body.lstrip(b" \t\r\n").startswith(b"[")


def refuse_messages(body: bytes, headers: Mapping[str, str]) -> Response | None:
    """Refuse a body whose form the protocol does not have; None if the SDK may read it."""
    try:
        envelopes = _ENVELOPES.validate_json(body)
    except ValidationError as error:
        # What is no JSON, or no message, the SDK refuses in its own words.
        if any("id" in problem["loc"] for problem in error.errors(include_url=False)):
            return _invalid_request("The id of a request is a string or an integer, never null.")
        return None
    return _refuse_batch(body, headers) if isinstance(envelopes, list) else None


async def answer_batch(body: bytes, scope: Scope, json_transport: ASGIApp) -> Response:
    """Have each message of a batch answered in turn; notifications have no answer."""
    answers: list[Any] = []
    messages: list[Any] = pydantic_core.from_json(body)
    for message in messages:
        reply = await _answer_message(pydantic_core.to_json(message), scope, json_transport)
        if reply:
            answers.append(pydantic_core.from_json(reply))
    return JSONResponse(answers) if answers else Response(status_code=HTTPStatus.ACCEPTED)


def choose_media_type(headers: Mapping[str, str], *, wants_progress: bool) -> tuple[str, bool]:
    """Choose how to answer, as leniently as the protocol allows.

    Args:
        headers: of the request. A client without `Accept` takes anything (RFC 9110, 12.5.1).
        wants_progress: whether a stream is worth its cost.

    Returns:
        the `Accept` that the SDK is shown, and whether to answer with a stream.
    """
    accept = headers.get("accept", "").strip() or "*/*"
    ranges = [each.partition(";")[0].strip().lower() for each in accept.split(",")]
    takes_json = not {"*/*", "application/*", _JSON}.isdisjoint(ranges)
    takes_stream = not {"*/*", "text/*", _EVENT_STREAM}.isdisjoint(ranges)
    if takes_stream and not takes_json:
        return f"{_JSON}, {_EVENT_STREAM}", True
    return accept, takes_stream and wants_progress


def _refuse_batch(body: bytes, headers: Mapping[str, str]) -> Response | None:
    version = headers.get("mcp-protocol-version", DEFAULT_NEGOTIATED_VERSION)
    if version != DEFAULT_NEGOTIATED_VERSION:
        return _invalid_request(
            f"Protocol {version} has no batches. Send one message in each request."
        )
    calls = parse_calls(body)
    if not calls:
        return _invalid_request("A batch has at least one message.")
    if any(call.method == "initialize" for call in calls):
        return _invalid_request("initialize is sent by itself, never in a batch.")
    return None


def _to_call(message: _Message) -> Call:
    params = message.params
    if message.method == "resources/read" and isinstance(params.uri, str):
        return Call(message.method, resource=params.uri)
    if message.method != "tools/call":
        return Call(message.method)
    is_mapping = isinstance(params.arguments, dict)
    return Call(message.method, params.name, params.arguments if is_mapping else {})


async def _answer_message(body: bytes, scope: Scope, json_transport: ASGIApp) -> bytes:
    reply = bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def collect(message: Message) -> None:
        reply.extend(message.get("body", b""))

    await json_transport(scope, receive, collect)
    return bytes(reply)


def _invalid_request(sentence: str) -> Response:
    error = {"code": INVALID_REQUEST, "message": sentence}
    body = {"jsonrpc": "2.0", "id": None, "error": error}
    return JSONResponse(body, HTTPStatus.BAD_REQUEST)
