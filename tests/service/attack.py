"""What a caller sees of an answer, whichever way they ask; and where a tool takes a handle."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

import httpx2

from tests.service.stand_in import post

BOBS: Final = "hf_bob"
COMMAND: Final = ["python", "-c", "print(1)"]

BESIDES: Final[dict[str, dict[str, Any]]] = {
    "launch_job": {"image": "python:3.12", "command": COMMAND},
    "launch_inference": {"model": "m/m", "inputs": "Hi"},
    "launch_space_call": {"space": "ada/asleep"},
    "create_workspace": {"name": "mine"},
    "wait_for_jobs": {"timeout_seconds": 0.1},
    "create_schedule": {"cron": "@daily", "job": {"image": "python:3.12", "command": COMMAND}},
    "update_schedule": {"paused": True},
}
"""What a tool cannot do without, apart from handles, or would take its time without."""
META: Final = "io.modelcontextprotocol"
MODERN_META: Final = {
    f"{META}/protocolVersion": "2026-07-28",
    f"{META}/clientCapabilities": dict[str, Any](),
}
_COUNTED: Final = {"date", "ratelimit"}
"""Headers that differ between any two answers."""
_HANDLE: Final = re.compile(rb"\b(?:job|ws|sched)_[0-9a-z]{26}\b")
_MOMENT: Final = re.compile(rb'(?<=")\d{4}-\d\d-\d\dT[^"\\]+')


class Way(StrEnum):
    """How a tool can be reached: both eras of the protocol, and the transport that streams."""

    LEGACY = "legacy"
    MODERN = "modern"
    STREAMED = "streamed"


@dataclass(frozen=True)
class Answer:
    """Everything a caller gets to see of one answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, response: httpx2.Response) -> Self:
        """Keep all that is not a clock or a counter."""
        kept = [each for each in response.headers.multi_items() if each[0] not in _COUNTED]
        return cls(response.status_code, kept, _MOMENT.sub(b"then", response.content))

    def about(self, handle: str) -> Self:
        """Leave out the handle that was asked for."""
        return replace(self, body=self.body.replace(handle.encode(), b"HANDLE"))

    def anonymous(self) -> Self:
        """Leave out every handle."""
        return replace(self, body=_HANDLE.sub(b"HANDLE", self.body))

    def handles(self) -> set[bytes]:
        """Return every handle that stands in it."""
        return set(_HANDLE.findall(self.body))

    @property
    def code(self) -> str | None:
        """What the tool refused it as."""
        found = re.search(rb'"holdfast/error":\{"code":"(\w+)"', self.body)
        return found[1].decode() if found else None


async def send(url: str, way: Way, method: str, params: dict[str, Any], by: str) -> Answer:
    """Send one message, as a client of that kind does."""
    headers = {"authorization": f"Bearer {by}"}
    if way is Way.STREAMED:
        params = {**params, "_meta": {"progressToken": 1}}
    if way is Way.MODERN:
        params = {**params, "_meta": MODERN_META}
        headers |= {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
        if name := params.get("name") or params.get("uri") or params.get("taskId"):
            headers["mcp_name"] = name
    return Answer.of(await post(url, method, params, **headers))


async def use(
    url: str, tool: str, arguments: Mapping[str, Any], *, way: Way = Way.LEGACY, by: str = BOBS
) -> Answer:
    """Call a tool."""
    given = {**BESIDES.get(tool, {}), **arguments}
    return await send(url, way, "tools/call", {"name": tool, "arguments": given}, by)


@dataclass(frozen=True)
class Place:
    """One argument of one tool."""

    tool: str
    argument: str
    schema: dict[str, Any]

    @property
    def takes_text(self) -> bool:
        """Whether it could be given a handle at all."""
        shapes = self.schema.get("anyOf", [self.schema])
        return {shape.get("type") for shape in shapes}.isdisjoint({"integer", "boolean"}) or any(
            shape.get("type") == "string" for shape in shapes
        )

    def given(self, handle: str) -> dict[str, Any]:
        """Put a handle there."""
        several = any(shape.get("type") == "array" for shape in self.schema.get("anyOf", []))
        return {self.argument: [handle] if several else handle}
