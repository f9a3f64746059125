"""Download of a file by a sealed link, in chunks, and never as something that a browser runs.

A link is to a file of a job, to its whole result as JSON, or to an export, which is made meanwhile.

The row is read under row-level security, as the subject for whom the link was made, and decides. A
link that is forged or expired, or whose file is gone, is answered like one that never existed.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.common.errors import Unavailable
from schema.common.http import retry_after_header
from schema.db.database import Transaction
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus
from schema.specs.inputs import media_types
from service.runtime.context import App
from service.runtime.sealed_tokens import RESULT_FILE_NAME, DownloadGrant, ExportKind

_CHUNK_BYTES: Final = 1024 * 1024
_MAX_DOWNLOAD_TIME: Final = timedelta(minutes=30)
"""How long one download may take: a reader that stops reading goes away some time."""
_SAFE_MEDIA_TYPES: Final = media_types.ALL_MEDIA_TYPES | {"application/json"}
_UNSAFE_FILENAME_CHARACTER: Final = re.compile(r"[^A-Za-z0-9._-]")
_NOT_FOUND_TEXT: Final = (
    "There is nothing here, or not any more: a link is good for 15 minutes. "
    "Call job_result for a new one.\n"
)
_SECURITY_HEADERS: Final = {
    "cache-control": "private, no-store",
    "content-security-policy": "default-src 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


Chunks = AsyncGenerator[bytes]

log = structlog.stdlib.get_logger()


class ExportIncomplete(Exception):
    """A part of an export was deleted while a client read it."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file that is made while it is read."""

    name: str
    media_type: str
    chunks: Callable[[], Chunks]


ExportOpener = Callable[[App, Transaction, JobStatus, ExportKind], Awaitable[Export]]
"""Prepares an export in a transaction; its chunks are read after it."""


async def serve_download(  # noqa: PLR0911  # one for each target, and for what is none
    open_export: ExportOpener, request: Request
) -> Response:
    """Serve the file that a link was made for."""
    app: App = request.app.state.app
    grant = app.download_links.open_token(request.path_params["token"])
    if grant is None:
        return _not_found_response()
    is_head, target = request.method == "HEAD", grant.target
    try:
        if target == "result":
            return await _serve_result(app, grant)
        if target != "file":
            return await _serve_export(app, grant, target, open_export, is_head=is_head)
        file = await _find_file(app, grant)
    except Unavailable as error:
        headers = {**_SECURITY_HEADERS, **retry_after_header(error.retry_after)}
        return PlainTextResponse(f"{error}\n", HTTPStatus.SERVICE_UNAVAILABLE, headers)
    if file is None:
        return _not_found_response()
    headers = {
        **_SECURITY_HEADERS,
        "content-length": str(file.size_bytes),
        "content-type": _content_type(file),
        "content-disposition": _content_disposition(file.name),
    }
    if is_head:
        return Response(headers=headers)
    return _BoundedStream(read_file_chunks(app, file), headers=headers)


def _not_found_response() -> Response:
    return PlainTextResponse(_NOT_FOUND_TEXT, HTTPStatus.NOT_FOUND, _SECURITY_HEADERS)


async def _serve_result(app: App, grant: DownloadGrant) -> Response:
    async with app.database.as_subject(grant.subject_id) as (tx, _):
        result = await job_queries.get_job_result(tx, grant.subject_id, grant.job_id)
    if result is None:
        return _not_found_response()
    headers = {**_SECURITY_HEADERS, "content-disposition": _content_disposition(RESULT_FILE_NAME)}
    return JSONResponse(result, headers=headers)


async def _find_file(app: App, grant: DownloadGrant) -> JobFile | None:
    async with app.database.as_subject(grant.subject_id) as (tx, _):
        return await files.find_stored_file(tx, grant.subject_id, grant.job_id, grant.name)


async def _serve_export(
    app: App,
    grant: DownloadGrant,
    kind: ExportKind,
    open_export: ExportOpener,
    *,
    is_head: bool,
) -> Response:
    async with app.database.as_subject(grant.subject_id) as (tx, _):
        status = await job_queries.get_job_status(tx, grant.subject_id, grant.job_id)
        if status is None:
            return _not_found_response()
        export = await open_export(app, tx, status, kind)
    headers = {
        **_SECURITY_HEADERS,
        "content-type": export.media_type,
        "content-disposition": _content_disposition(export.name),
    }
    if is_head:
        return Response(headers=headers)
    return _BoundedStream(export.chunks(), headers=headers)


async def read_file_chunks(app: App, file: JobFile) -> Chunks:
    """Yield the bytes of a file that is stored here.

    Raises:
        ExportIncomplete: it was deleted meanwhile.
    """
    # Each chunk in a transaction of its own: none is open while a slow client reads.
    for start in range(0, file.size_bytes, _CHUNK_BYTES):
        async with app.database.as_subject(file.subject_id) as (tx, _):
            chunk = await files.read_file_bytes(tx, file, start=start, length=_CHUNK_BYTES)
        if chunk is None:
            raise ExportIncomplete
        yield chunk


class _BoundedStream(StreamingResponse):
    """Chunks for a client that has so long to read them.

    What ends before its end is cut off: the server closes the connection without the mark of the
    end, and the client knows that it has only a part.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks."""
        with anyio.move_on_after(_MAX_DOWNLOAD_TIME.total_seconds()) as deadline:
            try:
                await super().__call__(scope, receive, send)
            except* ExportIncomplete:
                log.warning("download.incomplete")
        if deadline.cancelled_caught:
            log.warning("download.too_slow")


def _content_type(file: JobFile) -> str:
    is_safe = file.media_type in _SAFE_MEDIA_TYPES
    media_type = file.media_type if is_safe else "application/octet-stream"
    return f"{media_type}; charset=utf-8" if media_type in media_types.TEXT else str(media_type)


def _content_disposition(name: str) -> str:
    name = name.rpartition("/")[2]
    ascii_name = _UNSAFE_FILENAME_CHARACTER.sub("_", name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def build_routes(open_export: ExportOpener) -> list[Route]:
    """Build the route of all links."""
    return [Route("/files/{token}", partial(serve_download, open_export))]
