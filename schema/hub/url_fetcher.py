"""Fetching of URLs that users name: from public machines only, within limits of size and time.

    parse the URL → resolve all its addresses → check each → connect to only those → TLS by name
        ▲                                                                              │
        └────────────────── a redirect, three times at most ───────────────────────────┘

The requests carry no credentials, and the type of a file is read from its bytes, never from its
server. The error for an address that is not public is the same as for a name that does not exist.

A webhook is sent under the same rules, except that no redirect is followed and nothing is read of
the answer but its status and when to come again.

    FetchError
    ├── FetchRefused   another try would fail too
    └── FetchFailed    another try may succeed
        └── FetchTimedOut
"""

import socket
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from ipaddress import ip_address
from ssl import SSLContext
from typing import Final

import anyio
import anyio.to_thread
import httpcore2
from httpcore2._backends.anyio import AnyIOBackend  # its public name has no type

from schema.common.durations import format_duration
from schema.common.http import REDIRECT_STATUSES, UNCOMPRESSED
from schema.common.process.tls import shared_ssl_context
from schema.common.version import package_version
from schema.specs.inputs import media_types
from schema.specs.inputs.public_url import IpAddress, PublicUrl, is_public_ip
from schema.specs.inputs.webhook_url import WebhookUrl

_HTTPS_PORT: Final = 443
_MAX_REDIRECTS: Final = 3
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
"""Seconds for one address to accept the connection; a name may have several."""
_MAX_ADDRESSES: Final = 6
_MAX_CONCURRENT_LOOKUPS: Final = 8
"""How many names are resolved at a time: a resolver that hangs holds a thread."""
_RETRYABLE_STATUSES: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_CONNECTION_ERRORS: Final = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
)

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Returns every address of a name."""
Dial = Callable[[IpAddress], Awaitable[httpcore2.AsyncNetworkStream]]
"""Connects to an address."""


class FetchError(Exception):
    """Base of everything that keeps a file from being fetched; users may see its text."""


class FetchRefused(FetchError):
    """Another try would fail too."""


class FetchFailed(FetchError):
    """Another try may succeed."""


class FetchTimedOut(FetchFailed):
    """It took too long."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A complete file."""

    content: bytes
    media_type: str
    """Read from its bytes, whatever its server called it."""


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """What is read of the answer to a webhook."""

    status: int
    retry_after: str
    """The header of that name, as it was sent; empty if there is none."""


class ResponseBody:
    """The body of one response, read in chunks."""

    def __init__(self, response: httpcore2.Response, url: PublicUrl, max_bytes: int) -> None:
        self._response = response
        self._url = url
        self._max_bytes = max_bytes

    def chunks(self) -> AsyncGenerator[bytes]:
        """Return its chunks.

        Raises:
            FetchRefused: it is larger than the limit.
        """
        return limit_bytes(self._response.aiter_stream(), self._max_bytes, source=self._url)


class Fetcher:
    """Fetches public files; tests pass their own name resolution and connections."""

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        ssl_context: SSLContext | None = None,
    ) -> None:
        """Use the names, machines and certificates of the Internet, unless others are passed."""
        self._resolve = resolve or _ThreadedResolver()
        self._dial = dial or _dial
        self._ssl_context = ssl_context or shared_ssl_context()

    async def fetch(
        self, url: str, *, max_bytes: int, timeout: timedelta, accept: frozenset[str]
    ) -> FetchedFile:
        """Fetch a file of one of the accepted media types (see `schema.specs.inputs.media_types`).

        Raises:
            FetchRefused: the URL, the place it leads to, or the file there is not acceptable.
            FetchFailed: the file could not be fetched this time.
        """
        async with self.open(url, max_bytes=max_bytes, timeout=timeout) as body:
            content = b"".join([chunk async for chunk in body.chunks()])
        try:
            return FetchedFile(content, media_types.detect_media_type(content, accept))
        except ValueError as error:
            raise FetchRefused(f"The file at the URL is not acceptable: {error}.") from None

    @asynccontextmanager
    async def open(
        self, url: str, *, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[ResponseBody]:
        """Open what a URL leads to; the block, with all reading in it, takes `timeout` at most.

        Raises:
            FetchRefused: the URL, the place it leads to, or the file there is not acceptable.
            FetchFailed: the file could not be fetched this time.
        """
        public_url = _parse_url(url)
        network = _PinnedNetworkBackend(self._resolve, self._dial)
        pool = self._open_pool(network)
        try:
            with anyio.move_on_after(timeout.total_seconds()) as scope:
                async with (
                    aclosing(network),
                    pool,
                    _follow_redirects(pool, public_url) as (response, final_url),
                ):
                    _expect_usable(response, final_url, max_bytes)
                    yield ResponseBody(response, final_url, max_bytes)
        except _CONNECTION_ERRORS:
            # Without the text of the error, which would tell one machine from another.
            raise FetchFailed(f"{public_url} could not be read to the end.") from None
        if scope.cancelled_caught:
            raise FetchTimedOut(f"{public_url} took longer than {format_duration(timeout)}.")

    async def post(
        self,
        url: WebhookUrl,
        content: bytes,
        headers: Mapping[str, str],
        *,
        timeout: timedelta,
    ) -> PostAnswer:
        """Send a webhook, and read the head of the answer.

        Args:
            url: where it goes; an origin of the operator's may be at any address.
            content: the body.
            headers: of the request, besides those of every request.
            timeout: for all of it.

        Raises:
            FetchRefused: the host is not on the public web.
            FetchTimedOut: it took longer than `timeout`.
            FetchFailed: there is no connection, or it broke.
        """
        network = (
            _PinnedNetworkBackend(self._resolve, self._dial) if url.is_public else AnyIOBackend()
        )
        sent_headers = [
            *_request_headers(),
            *headers.items(),
            ("content-length", str(len(content))),
        ]
        try:
            with anyio.move_on_after(timeout.total_seconds()) as scope:
                async with (
                    aclosing(network)
                    if isinstance(network, _PinnedNetworkBackend)
                    else AsyncExitStack(),
                    self._open_pool(network) as pool,
                    pool.stream(
                        "POST", url.text, headers=sent_headers, content=content
                    ) as response,
                ):
                    return PostAnswer(response.status, _get_header(response, b"retry-after"))
        except _CONNECTION_ERRORS:
            raise FetchFailed(f"{url} takes no webhook.") from None
        assert scope.cancelled_caught  # noqa: S101  # else there was an answer or an error
        raise FetchTimedOut(f"{url} took longer than {format_duration(timeout)}.")

    def _open_pool(self, network: httpcore2.AsyncNetworkBackend) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            http2=False,
            max_keepalive_connections=0,
            network_backend=network,
        )


@asynccontextmanager
async def _follow_redirects(
    pool: httpcore2.AsyncConnectionPool, url: PublicUrl
) -> AsyncGenerator[tuple[httpcore2.Response, PublicUrl]]:
    """Yield the response at the end of all redirects, and its URL."""
    for _ in range(_MAX_REDIRECTS + 1):
        target = httpcore2.URL(scheme=b"https", host=url.host, port=None, target=url.target)
        async with pool.stream("GET", target, headers=_request_headers()) as response:
            if response.status not in REDIRECT_STATUSES or not _get_header(response, b"location"):
                yield response, url
                return
            location = _get_header(response, b"location")
        try:
            url = url.resolve_redirect(location)
        except ValueError:
            raise FetchRefused(f"{url} leads to where nothing is fetched from.") from None
    raise FetchRefused(f"The URL leads to more than {_MAX_REDIRECTS} redirects.")


class _PinnedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that were checked, and resolves no name a second time."""

    def __init__(self, resolve: Resolve, dial: Dial) -> None:
        self._resolve = resolve
        self._dial = dial
        self._streams: list[httpcore2.AsyncNetworkStream] = []

    async def aclose(self) -> None:
        """Close every stream: the pool forgets a connection that is cut off in its handshake."""
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await stream.aclose()

    async def connect_tcp(
        self, host: str, *_: object, **__: object
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a name that accepts, if all of them are public."""
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
            addresses = [ip_address(text) for text in await self._resolve(host)]
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise FetchFailed(f"https://{host}/… could not be looked up.") from None
            addresses = []
        if not addresses or not all(is_public_ip(address) for address in addresses):
            raise FetchRefused(f"https://{host}/… is not on the public web.")
        return list(dict.fromkeys(addresses))


class _ThreadedResolver:
    """Asks the resolver of this machine, in threads of its own: it may not block other work."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_MAX_CONCURRENT_LOOKUPS)

    async def __call__(self, host: str) -> list[str]:
        return await anyio.to_thread.run_sync(
            _resolve_host, host, abandon_on_cancel=True, limiter=self._limiter
        )


def _resolve_host(host: str) -> list[str]:
    # With a final dot, so that no search domain of this machine is appended to the name.
    entries = socket.getaddrinfo(f"{host}.", _HTTPS_PORT, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in entries]


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
        *UNCOMPRESSED.items(),
        ("user-agent", f"holdfast/{package_version()}"),
    ]


def _expect_usable(response: httpcore2.Response, url: PublicUrl, max_bytes: int) -> None:
    status = response.status
    if status in _RETRYABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise FetchFailed(f"{url} answered {status}.")
    if status != HTTPStatus.OK:
        raise FetchRefused(f"{url} answered {status}.")
    if _get_header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchRefused(f"{url} sends it compressed, though it was told not to.")
    expect_length_fits(_get_header(response, b"content-length"), max_bytes, source=url)


def _get_header(response: httpcore2.Response, name: bytes) -> str:
    values = [value for key, value in response.headers if key.lower() == name]
    return values[0].decode("latin-1") if values else ""


async def limit_bytes(
    chunks: AsyncIterable[bytes], max_bytes: int, *, source: object
) -> AsyncGenerator[bytes]:
    """Yield the chunks of a file that is called `source` in errors.

    Raises:
        FetchRefused: it is larger than the limit.
    """
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(source, max_bytes)
        yield chunk


def expect_length_fits(content_length: str, max_bytes: int, *, source: object) -> None:
    """Check the size that a response announces; it may announce none.

    Raises:
        FetchRefused: it is larger than the limit.
    """
    if content_length.isdigit() and int(content_length) > max_bytes:
        raise _too_large(source, max_bytes)


def _too_large(source: object, max_bytes: int) -> FetchRefused:
    return FetchRefused(f"{source} is larger than {max_bytes:,} bytes, which is the limit.")
