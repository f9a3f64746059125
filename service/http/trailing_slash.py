"""ASGI middleware that serves a path with a slash at its end as the path without it.

Starlette would redirect, to an address that it builds from the request. Behind a proxy that is the
wrong scheme or host, and a client would send its token there.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlashMiddleware:
    """Takes the slashes off the end of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)
