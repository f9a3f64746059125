"""A receiver of webhooks: a server on this machine that remembers all it is sent."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        """The body, without a look at its signature."""
        content: dict[str, Any] = json.loads(self.body)
        return content

    def verify(self, secret: str) -> dict[str, Any]:
        """Check the signature as a receiver does, and return the body."""
        content: dict[str, Any] = Webhook(secret).verify(self.body.decode(), self.headers)
        return content


@dataclass
class WebhookReceiver:
    """What was received, and how it is answered."""

    status: str = "204 No Content"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    is_hanging: bool = False
    """It reads, and never answers."""
    received: list[ReceivedWebhook] = field(default_factory=list[ReceivedWebhook])
    has_received: asyncio.Event = field(default_factory=asyncio.Event)
    origin: str = ""

    @property
    def url(self) -> str:
        """Where it takes webhooks."""
        return f"{self.origin}/hook?key=open-sesame"

    async def serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take one request."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(ReceivedWebhook(first.split()[1], headers, body))
            self.has_received.set()
            if self.is_hanging:
                await reader.read()  # until the sender gives up
            else:
                own = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                writer.write(f"HTTP/1.1 {self.status}\r\n{own}content-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def run_webhook_receiver() -> AsyncGenerator[WebhookReceiver]:
    """Open a receiver on a free port."""
    receiver = WebhookReceiver()
    server = await asyncio.start_server(receiver.serve_connection, "127.0.0.1", 0)
    receiver.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield receiver
