"""An ASGI application on a port of its own, for the length of a block."""

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override


class _PromptServer(uvicorn.Server):
    """Says when it is up, and ends at once: uvicorn by itself sleeps for 0.1 s to 0.2 s."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_event = threading.Event()
        self._stop_event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Tell the server, in its thread, to end."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop_event.set)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.started_event.set()

    @override
    async def main_loop(self) -> None:
        ticks = asyncio.create_task(super().main_loop())  # it writes the header of the date
        await self._stop_event.wait()
        ticks.cancel()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # connections that are idle close in the next round of the loop
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:
            await self.lifespan.shutdown()


@contextmanager
def serve_app(app: ASGIApp, port: int = 0) -> Generator[str]:
    """Serve over HTTP, in a thread and a loop of its own; yield the URL."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = _PromptServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert server.started_event.wait(15), "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stop()
        thread.join(15)
        listener.close()
