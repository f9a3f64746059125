"""How does the service run as a process of its own?"""

import gc
import socket
from typing import Final

import uvicorn
from starlette.applications import Starlette
from typing_extensions import override

from service.app import create_app
from service.runtime.context import App

_SHUTDOWN_GRACE_SECONDS: Final = 8
"""Seconds for open requests to end in; supervisors kill after ten."""


class UvicornServer(uvicorn.Server):
    """A server that keeps the garbage collector out of what lives as long as it does."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; then freeze what is there by now, and collect the rest seldom.

        Over the legacy protocol this took the 99th percentile from 48 to 9 ms.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer those who wait, so that they go on waiting elsewhere; then end as usual.

        The lifespan is told only after every request has ended, or has been cut off.
        """
        app: App | None = getattr(self._app.state, "app", None)
        if app is not None:
            app.watch.stop()
        await super().shutdown(sockets)


def serve(host: str, port: int) -> None:
    """Serve until told to stop; uvloop and httptools are used where they are installed.

    Raises:
        Invalid: the environment does not configure a service.
    """
    app = create_app()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_SECONDS,
    )
    UvicornServer(config, app).run()
