"""Upload of a file by a sealed link: one PUT, in chunks, with no other credential than the link.

    link → rate → size → begin an attempt → chunks … → ready
    404    429    411, 413   404, 409        409        201

The bytes never lie in memory as a whole: each chunk is stored before the next is read. A link that
is forged, expired, used or of somebody else's upload is answered like one that never existed. A
request that breaks off leaves nothing behind, and its link can be used again.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Final

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from schema.artifacts import uploads
from schema.artifacts.upload_tables import CHUNK_BYTES, Upload
from schema.artifacts.uploads import OtherSize, Receipt
from schema.common import ids
from schema.common.errors import InDoubt, RateLimited, TooManyUploads, Unavailable
from schema.common.http import retry_after_header
from schema.common.ids import HandleKind
from schema.specs.inputs import media_types
from service.http.rate_limit import RateLimiter
from service.runtime.context import App
from service.runtime.sealed_tokens import UploadGrant

_SILENCE_SECONDS: Final = 60.0
"""How long a client may send nothing."""
_MAX_REQUESTS: Final = 64
"""Requests that one process receives at a time; each has a chunk in memory."""
_MAX_REQUESTS_OF_SUBJECT: Final = 8
_RETRY_AFTER: Final = {"retry-after": "5"}
_HEADERS: Final = {
    "cache-control": "private, no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_NOT_FOUND_TEXT: Final = (
    "There is nothing to send here, or not any more: a link takes one file, within an hour. "
    "Call create_upload for a new one.\n"
)
_LINK_STILL_GOOD: Final = "Nothing was stored; the link can be used again."

log = structlog.stdlib.get_logger()


class _Refusal(Exception):
    """The request is refused, and a holder of the link may know why."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


class _LinkUnusable(Exception):
    """The link is forged, expired, used, or of somebody else's upload."""


@dataclass(frozen=True, slots=True)
class _ReceivedBytes:
    """What is known of a file when all its bytes are stored."""

    sha256: str
    head: bytes
    """The first chunk, which shows the media type."""


class UploadEndpoint:
    """Receives files; one for each process."""

    def __init__(self) -> None:
        self._requests = Counter[str]()

    async def receive(self, request: Request) -> Response:
        """Receive the file that a link was made for."""
        app: App = request.app.state.app
        try:
            return await self._receive(app, request)
        except _LinkUnusable:
            return PlainTextResponse(_NOT_FOUND_TEXT, HTTPStatus.NOT_FOUND, _HEADERS)
        except _Refusal as refusal:
            is_busy = refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
            headers = {**_HEADERS, **(_RETRY_AFTER if is_busy else {})}
            return PlainTextResponse(f"{refusal}\n", refusal.status, headers)
        except RateLimited as error:
            headers = {**_HEADERS, **retry_after_header(error.retry_after)}
            return PlainTextResponse(f"{error}\n", HTTPStatus.TOO_MANY_REQUESTS, headers)
        except InDoubt:
            text = "Whether all of it was stored is not known; a new link does no harm.\n"
            return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, _HEADERS)
        except Unavailable as error:
            headers = {**_HEADERS, **retry_after_header(error.retry_after)}
            return PlainTextResponse(f"{error}\n", HTTPStatus.SERVICE_UNAVAILABLE, headers)

    async def _receive(self, app: App, request: Request) -> Response:
        grant = app.upload_links.open_token(request.path_params["token"])
        if grant is None:
            raise _LinkUnusable
        rate_limiter: RateLimiter = request.app.state.rate_limiter
        await rate_limiter.count_call(grant.subject_id)
        with self._take_place(grant.subject_id):
            receipt = await _begin(app, grant, _read_size(app, request))
            is_finished = False
            try:
                with anyio.fail_after(uploads.RECEIVE_TIMEOUT.total_seconds()):
                    received = await _store_chunks(app, receipt, request)
                upload = await _finish(app, receipt, received)
                is_finished = True
            except ClientDisconnect:
                log.info("upload.broken_off", upload=str(receipt.upload_id))
                raise _Refusal(HTTPStatus.BAD_REQUEST, _LINK_STILL_GOOD) from None
            except TimeoutError:
                sentence = f"The request was silent, or took too long. {_LINK_STILL_GOOD}"
                raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, sentence) from None
            finally:
                if not is_finished:
                    await _abandon(app, receipt)
        log.info("upload.received", upload=str(upload.id), bytes=upload.size_bytes)
        return _created_response(upload)

    @contextmanager
    def _take_place(self, subject_id: str) -> Generator[None]:
        if (
            self._requests.total() >= _MAX_REQUESTS
            or self._requests[subject_id] >= _MAX_REQUESTS_OF_SUBJECT
        ):
            sentence = f"Too many files are being sent at this moment. {_LINK_STILL_GOOD}"
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
        self._requests[subject_id] += 1
        try:
            yield
        finally:
            self._requests[subject_id] -= 1
            if not self._requests[subject_id]:
                del self._requests[subject_id]


def build_upload_routes() -> list[Route]:
    """Build the route of a process, with its own count of requests."""
    return [Route("/uploads/{token}", UploadEndpoint().receive, methods=["PUT"])]


def _read_size(app: App, request: Request) -> int:
    """Return the size that a request announces."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        sentence = f"Send the file with its size, as Content-Length. {_LINK_STILL_GOOD}"
        raise _Refusal(HTTPStatus.LENGTH_REQUIRED, sentence)
    # A size of thousands of digits is no number.
    size_bytes = int(length[:20])
    if size_bytes == 0:
        sentence = f"An upload has at least one byte. {_LINK_STILL_GOOD}"
        raise _Refusal(HTTPStatus.BAD_REQUEST, sentence)
    if size_bytes > app.upload_limits.max_bytes:
        sentence = (
            f"The file has {size_bytes:,} bytes, and an upload at most "
            f"{app.upload_limits.max_bytes:,}. {_LINK_STILL_GOOD}"
        )
        raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
    return size_bytes


async def _begin(app: App, grant: UploadGrant, size_bytes: int) -> Receipt:
    try:
        async with app.database.as_subject(grant.subject_id) as (tx, _):
            receipt = await uploads.begin_receiving(
                tx, grant.subject_id, grant.upload_id, size_bytes, app.upload_limits
            )
    except OtherSize as error:
        sentence = (
            f"The file has {size_bytes:,} bytes, and {error.declared_bytes:,} were declared. "
            f"{_LINK_STILL_GOOD}"
        )
        raise _Refusal(HTTPStatus.CONFLICT, sentence) from None
    except TooManyUploads as error:
        raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from None
    if receipt is None:
        raise _LinkUnusable
    return receipt


async def _store_chunks(app: App, receipt: Receipt, request: Request) -> _ReceivedBytes:
    """Store the body as chunks, each in a transaction of its own: none is open while we read."""
    digest, head, position, received = sha256(), b"", 0, 0
    async with aclosing(_read_chunks(request)) as chunks:
        async for chunk in chunks:
            received += len(chunk)
            if received > receipt.size_bytes:
                break
            async with app.database.as_subject(receipt.subject_id) as (tx, _):
                is_stored = await uploads.append_chunk(tx, receipt, position, chunk)
            if not is_stored:
                raise _overtaken()
            digest.update(chunk)
            head = head or chunk
            position += 1
    if received != receipt.size_bytes:
        sentence = f"The body has not the size of its Content-Length. {_LINK_STILL_GOOD}"
        raise _Refusal(HTTPStatus.BAD_REQUEST, sentence)
    return _ReceivedBytes(digest.hexdigest(), head)


async def _read_chunks(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body in chunks of one size; only the last one may be shorter."""
    waiting, body = bytearray(), request.stream()
    while True:
        with anyio.fail_after(_SILENCE_SECONDS):
            piece = await anext(body, None)
        waiting += piece or b""
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
        if piece is None:
            break
    if waiting:
        yield bytes(waiting)


async def _finish(app: App, receipt: Receipt, received: _ReceivedBytes) -> Upload:
    async with app.database.as_subject(receipt.subject_id) as (tx, _):
        declared = await uploads.read_declared_type(tx, receipt)
        try:
            media_type = media_types.choose_media_type(
                received.head, declared, is_whole=len(received.head) == receipt.size_bytes
            )
        except ValueError as error:
            sentence = f"The file cannot be taken: {error}. {_LINK_STILL_GOOD}"
            raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, sentence) from None
        upload = await uploads.finish_receiving(
            tx, receipt, sha256=received.sha256, media_type=media_type, limits=app.upload_limits
        )
    if upload is None:
        raise _overtaken()
    return upload


async def _abandon(app: App, receipt: Receipt) -> None:
    try:
        async with app.database.as_subject(receipt.subject_id) as (tx, _):
            await uploads.abandon_receiving(tx, receipt)
    except Unavailable as error:  # what was written expires, or a later request deletes it
        log.warning("upload.not_abandoned", upload=str(receipt.upload_id), why=str(error))


def _overtaken() -> _Refusal:
    sentence = "A later request through this link has begun, or has finished, so this one ended."
    return _Refusal(HTTPStatus.CONFLICT, sentence)


def _created_response(upload: Upload) -> Response:
    view = {
        "upload_id": ids.format_handle(HandleKind.UPLOAD, upload.id),
        "size_bytes": upload.size_bytes,
        "media_type": upload.media_type,
        "sha256": upload.sha256,
        "expires_at": upload.expires_at.isoformat(timespec="seconds"),
    }
    return JSONResponse(view, HTTPStatus.CREATED, _HEADERS)
