"""A public web of a test's own: names, addresses, and one machine behind all public addresses.

The fetcher's rules are the real ones. Only the addresses of a name, and the machine behind an
address, are fakes. All that it looks up and connects to is recorded.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpcore2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from httpcore2._backends.anyio import AnyIOBackend

from schema.hub.url_fetcher import Fetcher
from schema.specs.inputs.public_url import IpAddress

PUBLIC_ADDRESS = "93.184.215.14"
"""Where a name leads unless a test says otherwise."""

PageWriter = Callable[[asyncio.StreamWriter], Awaitable[None]]
PageAnswer = bytes | PageWriter
"""What a page answers: these bytes, or what is written by hand."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """What reached a machine."""

    url: str
    headers: dict[str, str]


@dataclass
class FakeWeb:
    """What names lead to, what is there, and what was done with it."""

    addresses_by_name: dict[str, list[str] | Exception] = field(
        default_factory=dict[str, list[str] | Exception]
    )
    """The addresses of a name, or why it has none."""
    rebound_addresses: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """What a name leads to once it has been asked for."""
    pages: dict[str, PageAnswer] = field(default_factory=dict[str, PageAnswer])
    unreachable: set[str] = field(default_factory=set[str])
    resolved_names: list[str] = field(default_factory=list[str])
    dialed_addresses: list[str] = field(default_factory=list[str])
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    port: int = 0

    @property
    def fetcher(self) -> Fetcher:
        """Return a fetcher on this web."""
        return Fetcher(resolve=self._resolve, dial=self._dial, ssl_context=_client_ssl_context())

    async def _resolve(self, host: str) -> list[str]:
        self.resolved_names.append(host)
        known = self.addresses_by_name.get(host, [PUBLIC_ADDRESS])
        if host in self.rebound_addresses:
            self.addresses_by_name[host] = self.rebound_addresses[host]
        if isinstance(known, Exception):
            raise known
        return known

    async def _dial(self, address: IpAddress) -> httpcore2.AsyncNetworkStream:
        self.dialed_addresses.append(str(address))
        if str(address) in self.unreachable:
            raise httpcore2.ConnectError
        return await AnyIOBackend().connect_tcp("127.0.0.1", self.port)

    async def serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one connection with one page."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
            }
            url = f"https://{headers['host']}{first.split()[1]}"
            self.requests.append(ReceivedRequest(url, headers))
            page = self.pages.get(url, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def run_fake_web() -> AsyncGenerator[FakeWeb]:
    """Open a web."""
    web = FakeWeb()
    server = await asyncio.start_server(
        web.serve_connection, "127.0.0.1", 0, ssl=_server_ssl_context()
    )
    web.port = server.sockets[0].getsockname()[1]
    async with server:
        yield web


def raw_response(content: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """Write an answer; a header that is given stands in place of the true one."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"content-length": str(len(content)), **named}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + content


def redirect_response(location: str, status: str = "302 Found") -> bytes:
    """Write a redirect."""
    return raw_response(b"", status, location=location)


def name_not_found() -> Exception:
    """Return what a resolver says of a name that does not exist."""
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@cache
def _certificate_authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    return key, _sign_certificate(name, name, key.public_key(), key, None)


@cache
def _client_ssl_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem = _certificate_authority()[1].public_bytes(serialization.Encoding.PEM).decode()
    context.load_verify_locations(cadata=pem)
    return context


@cache
def _server_ssl_context() -> ssl.SSLContext:
    """Return what every machine of the web shows: it is `example.com`, and all under it."""
    authority, signer = _certificate_authority()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    names = [x509.DNSName("example.com"), x509.DNSName("*.example.com")]
    alternatives = x509.SubjectAlternativeName(names)
    certificate = _sign_certificate(name, signer.subject, key.public_key(), authority, alternatives)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "identity.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    return context


def _sign_certificate(
    name: x509.Name,
    signer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signing_key: ec.EllipticCurvePrivateKey,
    alternative_names: x509.SubjectAlternativeName | None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.BasicConstraints(ca=alternative_names is None, path_length=None), critical=True
        )
    )
    if alternative_names is not None:
        builder = builder.add_extension(alternative_names, critical=False)
    return builder.sign(signing_key, hashes.SHA256())
