"""The one way to what a user names on the web: public machines only, and no more than is asked for.

    read the URL → ask for all its addresses → judge each → connect to just those → TLS by name
        ▲                                                                              │
        └────────────────── a redirect, three times at most ───────────────────────────┘

Nobody's authority is sent along, and what comes back is believed by its bytes alone. Who asks
learns of an address that is not public as little as of a name that does not exist.

    FetchError
    ├── FetchRefused   as it is, this will never be fetched
    └── FetchFailed    another try may succeed
"""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from ssl import SSLContext
from typing import Final

import anyio
import anyio.to_thread
import httpcore2
import httpx2
from httpcore2._backends.anyio import AnyIOBackend  # its public name has no type

from schema.common.durations import format_duration
from schema.common.version import package_version
from schema.specs.inputs import media_types
from schema.specs.inputs.public_url import IpAddress, PublicUrl, is_public_ip

_HTTPS_PORT: Final = 443
_MAX_REDIRECTS: Final = 3
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
"""Seconds for one address to take the connection; a name may have several."""
_MAX_ADDRESSES: Final = 6
_MAX_CONCURRENT_LOOKUPS: Final = 8
"""How many names are asked for at a time: a resolver that hangs holds a thread."""
_OK: Final = 200
_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_CONNECTION_ERRORS: Final = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
)

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Gives every address of a name."""
Dial = Callable[[IpAddress], Awaitable[httpcore2.AsyncNetworkStream]]
"""Connects to an address."""


class FetchError(Exception):
    """Base of all that keeps a file from being fetched; its text is fit to show who asked."""


class FetchRefused(FetchError):
    """As it is, this will never be fetched."""


class FetchFailed(FetchError):
    """Another try may succeed."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file, whole."""

    content: bytes
    media_type: str
    """By what its bytes are, whatever its server called it."""


class ResponseBody:
    """The body of one answer, as it comes."""

    def __init__(self, response: httpcore2.Response, address: PublicUrl, max_bytes: int) -> None:
        self._response = response
        self._address = address
        self._max_bytes = max_bytes

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield it piece by piece.

        Raises:
            FetchRefused: there is more of it than is taken.
        """
        received = 0
        async for chunk in self._response.aiter_stream():
            received += len(chunk)
            if received > self._max_bytes:
                raise _too_large(self._address, self._max_bytes)
            yield chunk


class Fetcher:
    """Fetches what is public; how names are asked for and machines reached is for tests to say."""

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        ssl_context: SSLContext | None = None,
    ) -> None:
        """Unless they are given, names, machines and certificates are those of the Internet."""
        self._resolve = resolve or _ThreadedResolver()
        self._dial = dial or _dial
        self._ssl_context = ssl_context or httpx2.create_ssl_context()

    async def fetch(
        self, url: str, *, max_bytes: int, timeout: timedelta, accept: frozenset[str]
    ) -> FetchedFile:
        """Fetch a file of one of the accepted media types (see `schema.specs.inputs.media_types`).

        Raises:
            FetchRefused: the URL, where it leads, or what is there will not do.
            FetchFailed: it could not be had this time.
        """
        async with self.open(url, max_bytes=max_bytes, timeout=timeout) as body:
            content = b"".join([chunk async for chunk in body.chunks()])
        try:
            return FetchedFile(content, media_types.detect_media_type(content, accept))
        except ValueError as error:
            raise FetchRefused(f"What the URL leads to will not do: {error}.") from None

    @asynccontextmanager
    async def open(
        self, url: str, *, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[ResponseBody]:
        """Open what a URL leads to; the block, and all that is read in it, takes so long at most.

        Raises:
            FetchRefused: the URL, where it leads, or what is there will not do.
            FetchFailed: it could not be had this time.
        """
        address = _parse_url(url)
        network = _PinnedNetworkBackend(self._resolve, self._dial)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            http2=False,
            max_keepalive_connections=0,
            network_backend=network,
        )
        try:
            with anyio.move_on_after(timeout.total_seconds()) as waiting:
                async with (
                    aclosing(network),
                    pool,
                    _follow_redirects(pool, address) as (response, final),
                ):
                    _expect_usable(response, final, max_bytes)
                    yield ResponseBody(response, final, max_bytes)
        except _CONNECTION_ERRORS:
            # Not its words: they tell one machine from another.
            raise FetchFailed(f"{address} could not be read to the end.") from None
        if waiting.cancelled_caught:
            raise FetchFailed(f"{address} took longer than {format_duration(timeout)}.")


@asynccontextmanager
async def _follow_redirects(
    pool: httpcore2.AsyncConnectionPool, address: PublicUrl
) -> AsyncGenerator[tuple[httpcore2.Response, PublicUrl]]:
    """Yield the answer at the end of all redirects, and where it came from."""
    for _ in range(_MAX_REDIRECTS + 1):
        url = httpcore2.URL(scheme=b"https", host=address.host, port=None, target=address.target)
        async with pool.stream("GET", url, headers=_request_headers()) as response:
            if response.status not in _REDIRECT_STATUSES or not _get_header(response, b"location"):
                yield response, address
                return
            location = _get_header(response, b"location")
        try:
            address = address.resolve_redirect(location)
        except ValueError:
            raise FetchRefused(f"{address} leads to where nothing is fetched from.") from None
    raise FetchRefused(f"The URL leads on and on: more than {_MAX_REDIRECTS} redirects.")


class _PinnedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were judged, and asks for none a second time."""

    def __init__(self, resolve: Resolve, dial: Dial) -> None:
        self._resolve = resolve
        self._dial = dial
        self._streams: list[httpcore2.AsyncNetworkStream] = []

    async def aclose(self) -> None:
        """Close what was opened: the pool forgets a connection that is cut off in its handshake."""
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await stream.aclose()

    async def connect_tcp(
        self, host: str, *_: object, **__: object
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a name that takes it, if all of them are public."""
        addresses = await self._resolve_public(host)
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                with anyio.fail_after(_CONNECT_TIMEOUT_SECONDS):
                    stream = await self._dial(address)
            except (TimeoutError, *_CONNECTION_ERRORS):
                continue
            self._streams.append(stream)
            return stream
        raise FetchFailed(f"https://{host}/… takes no connection.")

    async def _resolve_public(self, host: str) -> list[IpAddress]:
        try:
            addresses = [ip_address(said) for said in await self._resolve(host)]
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise FetchFailed(f"https://{host}/… could not be looked up.") from None
            addresses = []
        if not addresses or not all(is_public_ip(address) for address in addresses):
            raise FetchRefused(f"https://{host}/… is not on the public web.")
        return list(dict.fromkeys(addresses))


class _ThreadedResolver:
    """Asks the resolver of this machine, in threads of its own: those of others may not wait."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_MAX_CONCURRENT_LOOKUPS)

    async def __call__(self, host: str) -> list[str]:
        return await anyio.to_thread.run_sync(
            _resolve_host, host, abandon_on_cancel=True, limiter=self._limiter
        )


def _resolve_host(host: str) -> list[str]:
    # With a final dot, so that no search domain of this machine is tried behind the name.
    found = socket.getaddrinfo(f"{host}.", _HTTPS_PORT, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _dial(address: IpAddress) -> httpcore2.AsyncNetworkStream:
    return await AnyIOBackend().connect_tcp(str(address), _HTTPS_PORT)


def _parse_url(url: str) -> PublicUrl:
    try:
        return PublicUrl.parse(url)
    except ValueError as error:
        raise FetchRefused(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


def _request_headers() -> list[tuple[str | bytes, str | bytes]]:
    return [
        ("accept", "*/*"),
        # As it is: a few bytes that unpack to gigabytes would be unpacked by whoever reads them.
        ("accept-encoding", "identity"),
        ("user-agent", f"holdfast/{package_version()}"),
    ]


def _expect_usable(response: httpcore2.Response, address: PublicUrl, max_bytes: int) -> None:
    status = response.status
    if status in _RETRYABLE_STATUSES or status >= _SERVER_ERROR:
        raise FetchFailed(f"{address} answered {status}.")
    if status != _OK:
        raise FetchRefused(f"{address} answered {status}.")
    if _get_header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchRefused(f"{address} sends it compressed, though it was told not to.")
    length = _get_header(response, b"content-length")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(address, max_bytes)


def _get_header(response: httpcore2.Response, name: bytes) -> str:
    found = [value for key, value in response.headers if key.lower() == name]
    return found[0].decode("latin-1") if found else ""


def _too_large(address: PublicUrl, max_bytes: int) -> FetchRefused:
    return FetchRefused(f"{address} is larger than {max_bytes:,} bytes, which is what is taken.")
