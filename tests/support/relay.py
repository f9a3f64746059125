"""A relay of TCP connections: another address for a server, which can be shut and opened again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

_CHUNK_BYTES: Final = 65536


@asynccontextmanager
async def relay_to(
    backend_port: int, *, host: str, answers: asyncio.Event | None = None
) -> AsyncGenerator[int]:
    """Relay to a port of 127.0.0.1 inside of the block; yield the port at `host`.

    While `answers` is not set, what the server answers is held back.
    """
    clients = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        with suppress(OSError, asyncio.CancelledError):
            await relay_connection(reader, writer, backend_port, answers)
        with suppress(OSError):
            writer.close()
        clients.discard(task)

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in list(clients):
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


@asynccontextmanager
async def relay_until(marker: bytes, backend_port: int) -> AsyncGenerator[int]:
    """Relay to a port of 127.0.0.1 until a client sends `marker`; then hang.

    What hangs still accepts connections and whatever they send. Yield the port of 127.0.0.1.
    """
    is_hanging = asyncio.Event()
    clients = set[asyncio.Task[None]]()

    async def copy_until(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if marker in data:
                is_hanging.set()
            if not is_hanging.is_set():
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        backend_reader, backend_writer = await asyncio.open_connection("127.0.0.1", backend_port)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                copy_until(reader, backend_writer), copy_until(backend_reader, writer)
            )
        backend_writer.close()
        writer.close()
        clients.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for client in list(clients):
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def relay_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    backend_port: int,
    answers: asyncio.Event | None = None,
) -> None:
    """Relay one connection to a port of 127.0.0.1, until either side ends it."""
    backend_reader, backend_writer = await asyncio.open_connection("127.0.0.1", backend_port)
    ways = [
        asyncio.create_task(_copy(reader, backend_writer)),
        asyncio.create_task(_copy(backend_reader, writer, answers)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        backend_writer.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None = None
) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        if gate is not None:
            await gate.wait()
        writer.write(data)
        await writer.drain()
