"""Static files under addresses that name their content, so a browser may keep them for ever.

/static/3f2a9c…/app.css        another content has another address
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

STATIC_FOLDER: Final = Path(__file__).parents[2] / "web" / "static"
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served; a file of any other kind in the folder is for readers of the code."""
_DIGEST_CHARS: Final = 16
_HEADERS: Final = {
    "cache-control": "public, max-age=31536000, immutable",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
"""The policy is for a picture that somebody opens by itself; scripts and styles ignore it."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file, and the address of just this content."""

    url: str
    media_type: str
    content: bytes


@cache
def load_static_files() -> Mapping[str, StaticFile]:
    """Read every static file once, by its path in the folder."""
    files: dict[str, StaticFile] = {}
    for path in sorted(STATIC_FOLDER.rglob("*")):
        if media_type := _MEDIA_TYPES.get(path.suffix):
            content, name = path.read_bytes(), path.relative_to(STATIC_FOLDER).as_posix()
            digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
            files[name] = StaticFile(f"/static/{digest}/{name}", media_type, content)
    return MappingProxyType(files)


def static_url(name: str) -> str:
    """Return the address of a static file, for a template."""
    return load_static_files()[name].url


async def serve_static_file(request: Request) -> Response:
    """Serve a file to whoever names its content; any other address does not exist."""
    file = load_static_files().get(request.path_params["name"])
    if file is None or file.url != request.url.path:
        return PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)
    return Response(file.content, media_type=file.media_type, headers=_HEADERS)


STATIC_ROUTE: Final = Route("/static/{digest}/{name:path}", serve_static_file, methods=["GET"])
