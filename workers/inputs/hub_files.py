"""Files of the Hub, read with the token of whoever named them.

The token is for the Hub alone. Where the Hub sends us to another host for the bytes, that host is
judged like any that a user could have named, and gets no token. What is read is pinned: the same
path and revision are the same bytes, or are refused.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urljoin, urlsplit

import anyio
import httpx2

from schema.accounts.vault import Secret
from schema.common.durations import format_duration
from schema.hub.client import (
    HubAmbiguous,
    HubClient,
    HubRejected,
    HubUnreachable,
    as_hub_errors,
    raise_for_status,
    request_headers,
)
from schema.specs.inputs.hub_uri import HubUri
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused

_MAX_REDIRECTS: Final = 3
_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
_ERROR_CODE_HEADER: Final = "x-error-code"
_COMMIT_HEADER: Final = "x-repo-commit"
_CONTENT_HASH_HEADERS: Final = ("x-xet-hash", "x-linked-etag", "etag")
"""What tells the content of a file that has no revision, the surest first."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the Hub that is being read."""

    uri: HubUri
    revision: str
    """The commit it was read from; in a bucket, what tells its content."""
    _chunks: AsyncGenerator[bytes]
    _max_bytes: int

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield it piece by piece.

        Raises:
            FetchRefused: there is more of it than is taken.
        """
        received = 0
        with _as_unreachable():
            async for chunk in self._chunks:
                received += len(chunk)
                if received > self._max_bytes:
                    raise _too_large(self.uri, self._max_bytes)
                yield chunk

    async def lines(self, *, max_line_bytes: int) -> AsyncGenerator[bytes]:
        """Yield it line by line, without what ends them; empty ones too, so that they count.

        Raises:
            FetchRefused: there is more of it than is taken, or a line is longer than `longest`.
        """
        rest, number = b"", 0
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    number += 1
                    yield _expect_line_fits(max_line_bytes, line, number, self.uri).removesuffix(
                        b"\r"
                    )
                _expect_line_fits(max_line_bytes, rest, number + 1, self.uri)
        if rest:
            yield rest.removesuffix(b"\r")


class HubFileReader:
    """Reads files of the Hub."""

    def __init__(self, hub: HubClient, fetcher: Fetcher) -> None:
        self._hub = hub
        self._fetcher = fetcher

    async def read(
        self, uri: HubUri, token: Secret, *, max_bytes: int, timeout: timedelta
    ) -> tuple[bytes, str]:
        """Read a file whole; also return its revision.

        Raises as `open` does.
        """
        async with self.open(uri, token, max_bytes=max_bytes, timeout=timeout) as file:
            return b"".join([chunk async for chunk in file.chunks()]), file.revision

    @asynccontextmanager
    async def open(
        self, uri: HubUri, token: Secret, *, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[HubFile]:
        """Open a file; the block, and all that is read in it, takes so long at most.

        Raises:
            Answered4xx: the Hub does not give it to this token.
            FetchRefused: it is too large, or is not what it was when it was pinned.
            Unreached: it could not be had this time; trying again is harmless.
        """
        async with AsyncExitStack() as stack:
            waiting = stack.enter_context(anyio.move_on_after(timeout.total_seconds()))
            with _as_unreachable():
                answer = self._open_response(uri, token, max_bytes, timeout)
                file = await stack.enter_async_context(answer)
            yield file
        if waiting.cancelled_caught:
            raise HubUnreachable(f"{uri} took longer than {format_duration(timeout)} to read")

    @asynccontextmanager
    async def _open_response(
        self, uri: HubUri, token: Secret, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[HubFile]:
        url = f"{self._hub.url}{uri.url_path}"
        # As it is: a few bytes that unpack to gigabytes would be unpacked at once.
        sent = {**request_headers(token), "accept-encoding": "identity"}
        revision: str | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._hub.session.stream("GET", url, headers=sent) as response:
                revision = _parse_revision(uri, response) or revision
                if response.status_code not in _REDIRECT_STATUSES:
                    _expect_usable(uri, response, max_bytes)
                    pinned = _expect_pinned_revision(uri, revision)
                    yield HubFile(uri, pinned, response.aiter_raw(), max_bytes)
                    return
            url = urljoin(url, response.headers.get("location", ""))
            if urlsplit(url)[:2] != urlsplit(self._hub.url)[:2]:
                if not _is_local_hub(url, self._hub.url):
                    break
                sent.pop("authorization", None)
        else:
            raise HubAmbiguous(f"{uri} leads on and on")
        pinned = _expect_pinned_revision(uri, revision)
        async with self._fetcher.open(url, max_bytes=max_bytes, timeout=timeout) as body:
            yield HubFile(uri, pinned, body.chunks(), max_bytes)


@contextmanager
def _as_unreachable() -> Generator[None]:
    """Let whatever was lost be asked for again: reading changes nothing."""
    try:
        with as_hub_errors():
            yield
    except (HubAmbiguous, FetchFailed) as error:
        raise HubUnreachable(str(error)) from None


def _is_local_hub(url: str, hub_url: str) -> bool:
    """Tell whether a Hub on this machine has sent us to its own other name, and no further."""
    there, here = urlsplit(url), urlsplit(hub_url)
    same = (there.scheme, there.port) == (here.scheme, here.port)
    return same and {there.hostname, here.hostname} <= _LOOPBACK_HOSTS


def _parse_revision(uri: HubUri, response: httpx2.Response) -> str | None:
    names = (_COMMIT_HEADER,) if uri.has_revisions else _CONTENT_HASH_HEADERS
    found = (response.headers.get(name) for name in names)
    return next((value.strip('"') for value in found if value), None)


def _expect_pinned_revision(uri: HubUri, revision: str | None) -> str:
    if revision is None:
        raise HubAmbiguous(f"the Hub does not say which revision of {uri} it gives")
    if not uri.has_revisions and uri.revision not in {None, revision}:
        raise FetchRefused(f"{uri} has changed since it was first read.")
    return revision


def _expect_usable(uri: HubUri, response: httpx2.Response, max_bytes: int) -> None:
    try:
        raise_for_status(response)
    except HubRejected as no:
        # A repository one may not see is also answered so; that says nothing against the token.
        unseen = no.status == _UNAUTHORIZED and _ERROR_CODE_HEADER in response.headers
        status = _NOT_FOUND if unseen else no.status
        raise HubRejected(status, f"{uri}: {no.message}", no.retry_after) from None
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise HubAmbiguous(f"{uri} comes compressed, though it was not to be")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(uri, max_bytes)


def _expect_line_fits(max_line_bytes: int, line: bytes, number: int, uri: HubUri) -> bytes:
    if len(line) > max_line_bytes:
        raise FetchRefused(f"Line {number} of {uri} is longer than {max_line_bytes:,} bytes.")
    return line


def _too_large(uri: HubUri, max_bytes: int) -> FetchRefused:
    return FetchRefused(f"{uri} is larger than {max_bytes:,} bytes, which is what is taken.")
