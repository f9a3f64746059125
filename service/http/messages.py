"""The JSON-RPC messages in a body: one, or in protocol 2025-03-26 a batch of them.

The SDK (mcp 2.3.0) takes a request whose id is null or a fraction for a notification, and leaves it
without an answer; and it knows no batches. Both are settled here, before a message reaches it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

import pydantic_core
from mcp_types import DEFAULT_NEGOTIATED_VERSION, INVALID_REQUEST
from pydantic import BaseModel, StrictInt, StrictStr, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Scope

_JSON: Final = "application/json"
_EVENT_STREAM: Final = "text/event-stream"
MAX_BATCH_MESSAGES: Final = 50
"""How many messages a batch may have; all its answers are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Call:
    """The call in a message; what is malformed of it is empty."""

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
    params: Any = None


class _Envelope(BaseModel):
    id: StrictInt | StrictStr = ""


def parse_calls(body: bytes) -> list[Call]:
    """Return the call in each message of a body; an empty one for what is malformed."""
    return [_parse_call(message) for message in _parse_messages(body)]


def is_batch(body: bytes) -> bool:
    """Return whether a body is a list; what is no JSON is none."""
    return _has_bracket(body) and _parse_json(body) is not None


def refuse_messages(body: bytes, headers: Mapping[str, str]) -> Response | None:
    """Refuse a body whose form the protocol does not have; None if the SDK may read it."""
    if is_batch(body) and (refusal := _refuse_batch(body, headers)) is not None:
        return refusal
    # What is no JSON, or no message, the SDK refuses in its own words.
    if all(_has_valid_id(message) for message in _parse_messages(body)):
        return None
    return _invalid_request("The id of a request is a string or an integer, never null.")


async def answer_batch(body: bytes, scope: Scope, json_transport: ASGIApp) -> Response:
    """Have each message of a batch answered in turn; notifications have no answer."""
    answers: list[Any] = []
    for message in _parse_messages(body):
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
    if len(calls) > MAX_BATCH_MESSAGES:
        return _invalid_request(
            f"A batch has at most {MAX_BATCH_MESSAGES} messages, and this one has {len(calls):,}. "
            "Nothing was done. Send them in several requests."
        )
    if any(call.method == "initialize" for call in calls):
        return _invalid_request("initialize is sent by itself, never in a batch.")
    return None


def _has_bracket(body: bytes) -> bool:
    return body.lstrip(b" \t\r\n").startswith(b"[")


def _parse_json(body: bytes) -> Any:
    try:
        return pydantic_core.from_json(body)
    except ValueError:
        return None


def _parse_messages(body: bytes) -> list[Any]:
    """Return the messages of a body, whatever they are: these are counted, and these answered."""
    parsed = _parse_json(body)
    if isinstance(parsed, list):
        return cast("list[object]", parsed)
    return [parsed]


def _has_valid_id(message: Any) -> bool:
    try:
        _Envelope.model_validate(message)
    except ValidationError as error:
        return not any("id" in problem["loc"] for problem in error.errors(include_url=False))
    return True


def _parse_call(message: Any) -> Call:
    try:
        parsed = _Message.model_validate(message)
    except ValidationError:
        return Call()
    method = parsed.method
    try:
        params = _Params.model_validate({} if parsed.params is None else parsed.params)
    except ValidationError:
        return Call(method)
    if method == "resources/read" and isinstance(params.uri, str):
        return Call(method, resource=params.uri)
    if method != "tools/call":
        return Call(method)
    is_mapping = isinstance(params.arguments, dict)
    return Call(method, params.name, params.arguments if is_mapping else {})


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
