"""What does a link to a file give? Its bytes, piece by piece, and nothing that a browser would run.

The row is read under the wall of the subject the link was made for, and is the last word. A link
that is forged or too old, or to a file that is gone, is answered like one that never was.
"""

import re
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from schema.artifacts import files
from schema.artifacts.files import JobFile
from schema.common.errors import Unavailable
from schema.specs.inputs import media_types
from service.runtime.context import App
from service.runtime.sealed_tokens import DownloadGrant

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
    """Give the file that a link was made for."""
    app: App = request.app.state.app
    given = app.download_links.open_token(request.path_params["token"])
    try:
        file = None if given is None else await _find_file(app, given)
    except Unavailable as error:
        seconds = str(max(1, round(error.retry_after.total_seconds())))
        return PlainTextResponse(f"{error}\n", 503, {**_SECURITY_HEADERS, "retry-after": seconds})
    if given is None or file is None:
        return PlainTextResponse(_NOT_FOUND_TEXT, 404, _SECURITY_HEADERS)
    headers = {
        **_SECURITY_HEADERS,
        "content-length": str(file.size_bytes),
        "content-type": _content_type(file),
        "content-disposition": _content_disposition(file.name),
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_read_chunks(app, given, file), headers=headers)


async def _find_file(app: App, grant: DownloadGrant) -> JobFile | None:
    async with app.database.as_subject(grant.subject_id) as (tx, _):
        return await files.find_stored_file(tx, grant.subject_id, grant.job_id, grant.name)


async def _read_chunks(app: App, grant: DownloadGrant, file: JobFile) -> AsyncGenerator[bytes]:
    # Each in a transaction of its own: none is open while a slow client takes its time.
    for start in range(0, file.size_bytes, _CHUNK_BYTES):
        async with app.database.as_subject(grant.subject_id) as (tx, _):
            piece = await files.read_file_bytes(tx, file, start=start, length=_CHUNK_BYTES)
        if piece is None:
            return  # forgotten meanwhile; that less comes than was said tells the client
        yield piece


def _content_type(file: JobFile) -> str:
    kind = file.media_type if file.media_type in _SAFE_MEDIA_TYPES else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind in media_types.TEXT else str(kind)


def _content_disposition(name: str) -> str:
    name = name.rpartition("/")[2]
    plain = _UNSAFE_FILENAME_CHARACTER.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


ROUTES: Final = [Route("/files/{token}", serve_download)]
