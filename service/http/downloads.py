"""Download of a file by a sealed link, in chunks, and never as something that a browser runs.

A link without the name of a file is to the whole result of its job, as JSON.

The row is read under row-level security, as the subject for whom the link was made, and decides. A
link that is forged or expired, or whose file is gone, is answered like one that never existed.
"""

import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.common.errors import Unavailable
from schema.common.http import retry_after_header
from schema.jobs import queries as job_queries
from schema.specs.inputs import media_types
from service.runtime.context import App
from service.runtime.sealed_tokens import RESULT_FILE_NAME, DownloadGrant

_CHUNK_BYTES: Final = 1024 * 1024
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


async def serve_download(request: Request) -> Response:
    """Serve the file that a link was made for."""
    app: App = request.app.state.app
    grant = app.download_links.open_token(request.path_params["token"])
    try:
        if grant is not None and not grant.name:
            return await _serve_result(app, grant)
        file = None if grant is None else await _find_file(app, grant)
    except Unavailable as error:
        headers = {**_SECURITY_HEADERS, **retry_after_header(error.retry_after)}
        return PlainTextResponse(f"{error}\n", HTTPStatus.SERVICE_UNAVAILABLE, headers)
    if grant is None or file is None:
        return _not_found_response()
    headers = {
        **_SECURITY_HEADERS,
        "content-length": str(file.size_bytes),
        "content-type": _content_type(file),
        "content-disposition": _content_disposition(file.name),
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_read_chunks(app, grant, file), headers=headers)


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


async def _read_chunks(app: App, grant: DownloadGrant, file: JobFile) -> AsyncGenerator[bytes]:
    # Each chunk in a transaction of its own: none is open while a slow client reads.
    for start in range(0, file.size_bytes, _CHUNK_BYTES):
        async with app.database.as_subject(grant.subject_id) as (tx, _):
            chunk = await files.read_file_bytes(tx, file, start=start, length=_CHUNK_BYTES)
        if chunk is None:
            # Deleted meanwhile; the client sees that less came than content-length says.
            return
        yield chunk


def _content_type(file: JobFile) -> str:
    is_safe = file.media_type in _SAFE_MEDIA_TYPES
    media_type = file.media_type if is_safe else "application/octet-stream"
    return f"{media_type}; charset=utf-8" if media_type in media_types.TEXT else str(media_type)


def _content_disposition(name: str) -> str:
    name = name.rpartition("/")[2]
    ascii_name = _UNSAFE_FILENAME_CHARACTER.sub("_", name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


ROUTES: Final = [Route("/files/{token}", serve_download)]
