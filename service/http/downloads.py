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
from service.runtime.download_links import Given

_PIECE: Final = 1024 * 1024
_HARMLESS: Final = media_types.EVERYTHING | {"application/json"}
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9._-]")
_NOTHING: Final = (
    "There is nothing here, or not any more: a link is good for 15 minutes. "
    "Call job_result for a new one.\n"
)
_HEADERS: Final = {
    "cache-control": "private, no-store",
    "content-security-policy": "default-src 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


async def download(request: Request) -> Response:
    """Give the file that a link was made for."""
    app: App = request.app.state.app
    given = app.links.read(request.path_params["token"])
    try:
        file = None if given is None else await _find(app, given)
    except Unavailable as error:
        seconds = str(max(1, round(error.retry_after.total_seconds())))
        return PlainTextResponse(f"{error}\n", 503, {**_HEADERS, "retry-after": seconds})
    if given is None or file is None:
        return PlainTextResponse(_NOTHING, 404, _HEADERS)
    headers = {
        **_HEADERS,
        "content-length": str(file.size_bytes),
        "content-type": _content_type(file),
        "content-disposition": _disposition(file.name),
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_pieces(app, given, file), headers=headers)


async def _find(app: App, given: Given) -> JobFile | None:
    async with app.ground.acting_for(given.subject_id) as (tx, _):
        return await files.stored(tx, given.subject_id, given.job_id, given.name)


async def _pieces(app: App, given: Given, file: JobFile) -> AsyncGenerator[bytes]:
    # Each in a transaction of its own: none is open while a slow client takes its time.
    for start in range(0, file.size_bytes, _PIECE):
        async with app.ground.acting_for(given.subject_id) as (tx, _):
            piece = await files.piece(tx, file, start=start, length=_PIECE)
        if piece is None:
            return  # forgotten meanwhile; that less comes than was said tells the client
        yield piece


def _content_type(file: JobFile) -> str:
    kind = file.media_type if file.media_type in _HARMLESS else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind in media_types.TEXT else str(kind)


def _disposition(name: str) -> str:
    name = name.rpartition("/")[2]
    plain = _NOT_PLAIN.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


ROUTES: Final = [Route("/files/{token}", download)]
