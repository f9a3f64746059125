"""A server that ends TLS in front of Postgres or Valkey, as managed services have one.

The wheels of both are built without TLS. The handshake is real; what is behind it is the server.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from tests.support.relay import relay_connection
from tests.support.tls.certificates import Certificates

_SSL_REQUEST_BYTES: Final = 8


class TlsFront:
    """One listening port, and how many clients have completed a handshake there."""

    port: int

    def __init__(self, backend_port: int, certificates: Certificates, *, is_postgres: bool) -> None:
        self.handshakes = 0
        self._backend_port = backend_port
        self._is_postgres = is_postgres
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._clients: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator["TlsFront"]:
        """Serve inside of the block."""
        server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=None if self._is_postgres else self._context
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for client in list(self._clients):
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._is_postgres:
                await reader.readexactly(_SSL_REQUEST_BYTES)
                writer.write(b"S")
                await writer.start_tls(self._context)
            self.handshakes += 1
            await relay_connection(reader, writer, self._backend_port)
        with suppress(OSError):
            writer.close()
        self._clients.discard(task)
