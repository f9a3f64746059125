"""A Hub and a router that answer at once, so that what is measured is ours.

    python -m tests.bench.scenarios.simulated_hub PORT JOBS STAGE

It knows every token and every namespace. A listing has JOBS jobs in STAGE, with the ids
NAMESPACE-0, NAMESPACE-1 and so on. A log has one line and then falls silent, as that of a running
job does. Every chat is answered with the same word.
"""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import UUID

from schema.hub.labels import APP_LABEL, APP_NAME, JOB_LABEL, RUN_LABEL
from service.local.ports import find_free_port
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until

_REQUEST_LINE: Final = re.compile(rb"(GET|POST) ([^ ?]+)[^ ]* HTTP/1\.1\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LISTING: Final = re.compile(r"/api/jobs/([^/]+)")
_LOG: Final = re.compile(r"/api/jobs/[^/]+/[^/]+/logs")
_CREATED_AT: Final = "2026-01-01T00:00:00.000Z"
_LOG_EVENT: Final = b'data: {"data": "step 1", "timestamp": "2026-01-01T00:00:00.000Z"}\n\n'
_CHAT: Final[dict[str, Any]] = {
    "id": "chat-1",
    "object": "chat.completion",
    "created": 0,
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "yes"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
}


def make_job(namespace: str, number: int, stage: str) -> dict[str, Any]:
    """Describe a job as the Hub does in a listing."""
    owner = {"id": "a" * 24, "name": namespace, "type": "user"}
    return {
        "id": f"{namespace}-{number}",
        "createdAt": _CREATED_AT,
        "startedAt": None if stage == "SCHEDULING" else _CREATED_AT,
        "dockerImage": "python:3.12",
        "command": ["python", "-c", "print('a command of the usual length', flush=True)"],
        "arguments": [],
        "environment": {},
        "secrets": [],
        "flavor": "cpu-basic",
        "labels": {
            APP_LABEL: APP_NAME,
            JOB_LABEL: "job_01k00000000000000000000000",
            RUN_LABEL: str(UUID(int=number)),
        },
        "status": {"stage": stage, "message": None, "failureCount": 0},
        "owner": owner,
        "createdBy": owner,
        "initiator": {"type": "user"},
    }


class SimulatedHub:
    """Answers requests on any number of connections."""

    def __init__(self, jobs: int, stage: str) -> None:
        self._jobs = jobs
        self._stage = stage

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until its client closes it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if length := _LENGTH.search(head):
                    await reader.readexactly(int(length[1]))
                request = _REQUEST_LINE.match(head)
                path = request[2].decode() if request else ""
                if _LOG.fullmatch(path):
                    await self._send_log(reader, writer)
                    return
                body = json.dumps(self._answer(path)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
        writer.close()

    def _answer(self, path: str) -> Any:
        if listing := _LISTING.fullmatch(path):
            return [make_job(listing[1], number, self._stage) for number in range(self._jobs)]
        return _CHAT

    async def _send_log(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send a line, and nothing more until the client closes the connection."""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + _LOG_EVENT)
        await writer.drain()
        await reader.read()
        writer.close()


@contextmanager
def run_simulated_hub(*, jobs: int = 0, stage: str = "RUNNING") -> Generator[str]:
    """Run such a Hub in a process of its own for the length of a block; yield its URL."""
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(port), str(jobs), stage], cwd=REPOSITORY
    )
    try:
        wait_until(lambda: _is_answering(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _is_answering(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


async def main(port: int, hub: SimulatedHub) -> None:
    """Serve until the process is told to stop."""
    server = await asyncio.start_server(hub.serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), SimulatedHub(int(sys.argv[2]), sys.argv[3])))
