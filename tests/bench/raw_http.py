"""A client of tool calls that costs little itself: one request after another on open connections.

The requests are made once and sent as bytes, because the client shares two cores with the servers
that are measured.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
_CLIENT: Final = {"name": "bench", "version": "1"}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call to a server, in one of the two eras of the protocol."""

    url: str
    """Of the MCP endpoint."""
    tool: str
    arguments: dict[str, Any]
    version: str
    token: str | None = None

    def encode(self) -> bytes:
        """Return the whole request."""
        parts = urlsplit(self.url)
        params: dict[str, Any] = {"name": self.tool, "arguments": self.arguments}
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": self.version,
        }
        if self.version == MODERN:
            prefix = "io.modelcontextprotocol/"
            params["_meta"] = {
                f"{prefix}protocolVersion": MODERN,
                f"{prefix}clientCapabilities": {},
                f"{prefix}clientInfo": _CLIENT,
            }
            headers |= {"Mcp-Method": "tools/call", "Mcp-Name": self.tool}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        body = json.dumps(message).encode()
        headers["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def measure_calls(calls: Sequence[ToolCall], *, connections: int) -> list[float]:
    """Make calls to one server, on a few connections side by side.

    Returns:
        The milliseconds that each call took.
    """
    requests = iter([call.encode() for call in calls])
    parts = urlsplit(calls[0].url)
    durations: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            for request in requests:
                started_at = time.perf_counter()
                writer.write(request)
                body = await _read_answer(reader)
                durations.append((time.perf_counter() - started_at) * 1000)
                if b'"isError":true' in body or b'"error"' in body[:60]:
                    raise AssertionError(body[:500].decode())
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
    return durations


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise AssertionError((head + await reader.read(500)).decode())
    if b"transfer-encoding: chunked" not in head:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return await reader.readexactly(length)
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body
