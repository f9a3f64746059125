"""All that a caller sees of an answer, and the places where a tool takes a handle."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

import httpx2

from tests.support.mcp.client import post_message
from tests.support.mcp.valid_arguments import REQUIRED_ARGUMENTS
from tests.support.subjects import BOB_TOKEN

META_PREFIX: Final = "io.modelcontextprotocol"
MODERN_REQUEST_META: Final = {
    f"{META_PREFIX}/protocolVersion": "2026-07-28",
    f"{META_PREFIX}/clientCapabilities": dict[str, Any](),
}
_VOLATILE_HEADERS: Final = {"date", "ratelimit", "x-request-id"}
"""Headers that differ between any two answers."""
_HANDLE: Final = re.compile(rb"(?:\b|(?<=\\n))(?:job|ws|sched)_[0-9a-z]{26}\b")
"""A handle in JSON, where an end of line is a backslash and an n."""
_REQUEST_ID: Final = re.compile(rb'(?<="holdfast/request_id":")[0-9a-f]{32}(?=")')
_TIMESTAMP: Final = re.compile(rb'(?<=")\d{4}-\d\d-\d\dT[^"\\]+')


class ProtocolVariant(StrEnum):
    """How a tool can be reached: both eras of the protocol, and the transport that streams."""

    LEGACY = "legacy"
    MODERN = "modern"
    STREAMED = "streamed"


@dataclass(frozen=True)
class ObservedAnswer:
    """Everything a caller gets to see of one answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def from_response(cls, response: httpx2.Response) -> Self:
        """Keep all that is not a clock, a counter or the id of the request."""
        headers = [
            header
            for header in response.headers.multi_items()
            if header[0] not in _VOLATILE_HEADERS
        ]
        body = _REQUEST_ID.sub(b"ID", _TIMESTAMP.sub(b"then", response.content))
        return cls(response.status_code, headers, body)

    def without_handle(self, handle: str) -> Self:
        """Leave out the handle that was asked for."""
        return replace(self, body=self.body.replace(handle.encode(), b"HANDLE"))

    def without_handles(self) -> Self:
        """Leave out every handle."""
        return replace(self, body=_HANDLE.sub(b"HANDLE", self.body))

    def find_handles(self) -> set[bytes]:
        """Return every handle that stands in it."""
        return set(_HANDLE.findall(self.body))

    @property
    def error_code(self) -> str | None:
        """What the tool refused it as."""
        match = re.search(rb'"holdfast/error":\{"code":"(\w+)"', self.body)
        return match[1].decode() if match else None


async def send_message(
    url: str, variant: ProtocolVariant, method: str, params: dict[str, Any], caller_token: str
) -> ObservedAnswer:
    """Send one message, as a client of that kind does."""
    headers = {"authorization": f"Bearer {caller_token}"}
    if variant is ProtocolVariant.STREAMED:
        params = {**params, "_meta": {"progressToken": 1}}
    if variant is ProtocolVariant.MODERN:
        params = {**params, "_meta": MODERN_REQUEST_META}
        headers |= {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
        if name := params.get("name") or params.get("uri") or params.get("taskId"):
            headers["mcp_name"] = name
    return ObservedAnswer.from_response(await post_message(url, method, params, **headers))


async def call_tool(
    url: str,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    variant: ProtocolVariant = ProtocolVariant.LEGACY,
    caller_token: str = BOB_TOKEN,
) -> ObservedAnswer:
    """Call a tool."""
    complete = {**REQUIRED_ARGUMENTS.get(tool, {}), **arguments}
    return await send_message(
        url, variant, "tools/call", {"name": tool, "arguments": complete}, caller_token
    )


@dataclass(frozen=True)
class ToolArgument:
    """One argument of one tool."""

    tool: str
    name: str
    schema: dict[str, Any]

    @property
    def accepts_text(self) -> bool:
        """Whether it could be given a handle at all."""
        shapes = self.schema.get("anyOf", [self.schema])
        return {shape.get("type") for shape in shapes}.isdisjoint({"integer", "boolean"}) or any(
            shape.get("type") == "string" for shape in shapes
        )

    def with_handle(self, handle: str) -> dict[str, Any]:
        """Put a handle there."""
        several = any(shape.get("type") == "array" for shape in self.schema.get("anyOf", []))
        return {self.name: [handle] if several else handle}
