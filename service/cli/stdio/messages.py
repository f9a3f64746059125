"""JSON-RPC messages on lines: what a bridge has to know of them, and no more.

A message of the client goes on as the bytes that it was. Only its method, its id and what the
headers of a request repeat are read. A message of the service becomes one line.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, cast

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INTERNAL_ERROR: Final = -32603
CANCELLATION: Final = "notifications/cancelled"
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_NAME_KEYS: Final = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "tasks/get": "taskId",
        "tasks/update": "taskId",
        "tasks/cancel": "taskId",
    }
)
"""The parameter of each method that the header `Mcp-Name` repeats."""
_PLAIN_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ENCODED_VALUE: Final = re.compile(r"=\?base64\?.*\?=")
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")

RequestId = str | int | float


class MalformedMessage(Exception):
    """A line of the client is no message; the text says what is wrong with it."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A message of the client, or a batch of them, as the client wrote it."""

    body: bytes
    method: str | None = None
    request_id: RequestId | None = None
    """None: it is no request, or a batch."""
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_batch: bool = False

    @property
    def has_answer(self) -> bool:
        """Whether the client waits for an answer to it."""
        return self.request_id is not None or self.is_batch

    @property
    def revision(self) -> str | None:
        """The revision of the protocol that the message names; None before 2026-07-28."""
        version = read_object(self.params.get("_meta")).get(_VERSION_KEY)
        return version if isinstance(version, str) else None

    @property
    def headers(self) -> dict[str, str]:
        """What the headers of a request repeat of it since 2026-07-28."""
        if self.revision is None or self.method is None:
            return {}
        headers = {"mcp-protocol-version": self.revision, "mcp-method": self.method}
        name = self.params.get(_NAME_KEYS.get(self.method, ""))
        if isinstance(name, str):
            headers["mcp-name"] = name
        return {key: encode_header_value(value) for key, value in headers.items()}


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """A message of the service: its fields, and the line that the client gets."""

    fields: Mapping[str, Any] | list[Any]
    line: str

    @property
    def is_answer(self) -> bool:
        """Whether it ends a request, and is no notification or request of the service."""
        return isinstance(self.fields, list) or "method" not in self.fields


def parse_client_message(line: bytes) -> ClientMessage:
    """Read a line of the client.

    Raises:
        MalformedMessage: it is no JSON, or no message of JSON-RPC.
    """
    try:
        parsed: object = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedMessage(
            PARSE_ERROR, "This line is no JSON. Write one message on each line, in UTF-8."
        ) from None
    fields = read_object(parsed)
    if isinstance(parsed, list):
        return ClientMessage(line, is_batch=True)
    if not isinstance(parsed, dict):
        raise MalformedMessage(INVALID_REQUEST, "A message of JSON-RPC is an object.")
    method, request_id = fields.get("method"), fields.get("id")
    if method is None and not {"result", "error"} & fields.keys():
        raise MalformedMessage(
            INVALID_REQUEST, "A message of JSON-RPC has a method, a result or an error."
        )
    if method is not None and not isinstance(method, str):
        raise MalformedMessage(INVALID_REQUEST, "The method of a message is a string.")
    if "id" in fields and (
        isinstance(request_id, bool) or not isinstance(request_id, str | int | float)
    ):
        raise MalformedMessage(INVALID_REQUEST, "The id of a message is a string or a number.")
    return ClientMessage(
        line,
        method,
        request_id if method is not None else None,
        read_object(fields.get("params")),
    )


def build_client_message(
    method: str, request_id: RequestId, params: Mapping[str, Any]
) -> ClientMessage:
    """Write a request that the client has not made."""
    fields = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return ClientMessage(json.dumps(fields).encode(), method, request_id, params)


def parse_server_message(text: str, message: ClientMessage) -> ServerMessage:
    """Read what the service sent while it answers `message`.

    An answer gets the id of its request: a refusal before the request was read has none.

    Raises:
        ValueError: it is no JSON, or neither an object nor the answer to a batch.
    """
    parsed: object = json.loads(text)
    fields = read_object(parsed)
    if isinstance(parsed, list) and message.is_batch:
        return ServerMessage([*parsed], text.translate(_LINE_BREAKS))
    if not isinstance(parsed, dict):
        raise ValueError("no object")  # noqa: TRY004  # as for what is no JSON
    if "method" not in fields and fields.get("id") != message.request_id:
        return build_server_message(fields | {"id": message.request_id})
    # A line break in JSON stands between two tokens: in a string it is escaped.
    return ServerMessage(fields, text.translate(_LINE_BREAKS))


def build_server_message(fields: Mapping[str, Any]) -> ServerMessage:
    """Write a message that the service has not sent, or not like this."""
    return ServerMessage(fields, json.dumps(fields))


def build_error(
    request_id: RequestId | None, code: int, sentence: str, data: Mapping[str, Any] | None = None
) -> ServerMessage:
    """Write the error that answers a request; the id None is that of a line without one."""
    error = {"code": code, "message": sentence} | ({} if data is None else {"data": dict(data)})
    return build_server_message({"jsonrpc": "2.0", "id": request_id, "error": error})


def read_object(value: object) -> dict[str, Any]:
    """Return a value of JSON that has to be an object; an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def encode_header_value(value: str) -> str:
    """Return a value as a header can have it, as the SDK (mcp 2.3.0) encodes it.

    Importing the SDK for this would take longer than everything else that the bridge does first.
    """
    if not value or (_PLAIN_VALUE.fullmatch(value) and not _ENCODED_VALUE.fullmatch(value)):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'replace')).decode()}?="
