"""ASGI helpers for a fake that reads a request and passes it on."""

from starlette.types import Message, Receive


async def read_body(receive: Receive) -> bytes:
    """Read a request to its end."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def replay_body(body: bytes) -> Receive:
    """Return a `receive` that delivers a body that was read before."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
