"""The HTTP endpoint of a worker's metrics: one request, one answer, and the connection is closed.

A worker serves nobody else, so it has no web server. Jobs matter more than their numbers: a port
that is taken is an error line, and the worker goes on without the page.
"""

import hmac
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final

import anyio
import structlog
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from schema.common.observability.metrics import CONTENT_TYPE
from schema.settings import Settings
from workers.loops.queue_metrics import WorkerCollector

_REQUEST_TIMEOUT: Final = timedelta(seconds=10)
_MAX_REQUEST_BYTES: Final = 16 * 1024
_METRICS_PATH: Final = "/metrics"

log = structlog.stdlib.get_logger()


async def serve_metrics(settings: Settings, collector: WorkerCollector) -> None:
    """Serve the metrics until cancelled; return at once if there is no port for them."""
    host, port = settings.worker_metrics_host, settings.worker_metrics_port
    if port is None:
        return
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as error:
        log.error("metrics.not_served", host=host, port=port, why=str(error))  # noqa: TRY400  # a sentence
        return
    async with listener:
        log.info("metrics.served", host=host, port=port)
        await listener.serve(partial(_answer, settings, collector))


async def _answer(settings: Settings, collector: WorkerCollector, stream: SocketStream) -> None:
    try:
        async with stream:
            with anyio.move_on_after(_REQUEST_TIMEOUT.total_seconds()):
                head = await BufferedByteReceiveStream(stream).receive_until(
                    b"\r\n\r\n", _MAX_REQUEST_BYTES
                )
                status, body = await _respond(settings, collector, head.decode("latin-1"))
                await stream.send(_format_response(status, body))
    except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
        pass  # the reader has left
    except (anyio.ClosedResourceError, anyio.DelimiterNotFound):
        pass  # or was no reader of metrics


async def _respond(
    settings: Settings, collector: WorkerCollector, head: str
) -> tuple[HTTPStatus, bytes]:
    request_line, *lines = head.split("\r\n")
    method, _, rest = request_line.partition(" ")
    if rest.split(" ")[0].split("?")[0] != _METRICS_PATH:
        return HTTPStatus.NOT_FOUND, b""
    if method != "GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, b""
    if settings.metrics_token is not None:
        expected = f"Bearer {settings.metrics_token.get_secret_value()}"
        headers = [line.partition(":") for line in lines]
        sent = {name.lower(): value.strip() for name, _, value in headers}.get("authorization", "")
        if not hmac.compare_digest(sent.encode("latin-1"), expected.encode()):
            return HTTPStatus.UNAUTHORIZED, b"Send the token of HOLDFAST_METRICS_TOKEN.\n"
    return HTTPStatus.OK, await collector.render()


def _format_response(status: HTTPStatus, body: bytes) -> bytes:
    content_type = CONTENT_TYPE if status is HTTPStatus.OK else "text/plain; charset=utf-8"
    challenge = "www-authenticate: Bearer\r\n" if status is HTTPStatus.UNAUTHORIZED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {content_type}\r\n{challenge}"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
