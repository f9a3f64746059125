"""Files of the Hub, read with the token of the subject who named them.

The token is for the Hub only. Where the Hub redirects to another host for the bytes, that host is
checked like any host that a user could name, and gets no token. A file is pinned to a revision: the
same path and revision are the same bytes, or the file is refused.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

import anyio
import httpx2

from schema.accounts.vault import Secret
from schema.common.durations import format_duration
from schema.common.http import REDIRECT_STATUSES, UNCOMPRESSED
from schema.hub.client import (
    HubAmbiguous,
    HubClient,
    HubRejected,
    HubUnreachable,
    as_hub_errors,
    raise_for_status,
    request_headers,
)
from schema.hub.url_fetcher import (
    Fetcher,
    FetchFailed,
    FetchRefused,
    expect_length_fits,
    limit_bytes,
)
from schema.specs.inputs.hub_uri import HubUri

_MAX_REDIRECTS: Final = 3
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
_ERROR_CODE_HEADER: Final = "x-error-code"
_COMMIT_HEADER: Final = "x-repo-commit"
_CONTENT_HASH_HEADERS: Final = ("x-xet-hash", "x-linked-etag", "etag")
"""Headers that identify the content of a file without a revision, the most reliable first."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the Hub that is being read."""

    uri: HubUri
    revision: str
    """The commit it is read from; in a bucket, what identifies its content."""
    _chunks: AsyncGenerator[bytes]
    _max_bytes: int

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield its chunks.

        Raises:
            FetchRefused: it is larger than the limit.
        """
        with _as_unreachable():
            async with aclosing(
                limit_bytes(self._chunks, self._max_bytes, source=self.uri)
            ) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def lines(self, *, max_line_bytes: int) -> AsyncGenerator[bytes]:
        """Yield its lines without their line ends; empty lines too, so that the numbers are right.

        Raises:
            FetchRefused: it is larger than the limit, or one of its lines is.
        """
        rest, number = b"", 0
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
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
        """Read a complete file; return its content and its revision.

        It raises what `open` raises.
        """
        async with self.open(uri, token, max_bytes=max_bytes, timeout=timeout) as file:
            return b"".join([chunk async for chunk in file.chunks()]), file.revision

    @asynccontextmanager
    async def open(
        self, uri: HubUri, token: Secret, *, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[HubFile]:
        """Open a file; the block, with all reading in it, takes `timeout` at most.

        Raises:
            HubRejected: the Hub refuses it to this token.
            FetchRefused: it is too large, or has changed since it was pinned.
            HubUnreachable: it could not be read this time; another try is harmless.
        """
        async with AsyncExitStack() as stack:
            scope = stack.enter_context(anyio.move_on_after(timeout.total_seconds()))
            with _as_unreachable():
                opening = self._open_response(uri, token, max_bytes, timeout)
                file = await stack.enter_async_context(opening)
            yield file
        if scope.cancelled_caught:
            raise HubUnreachable(f"{uri} took longer than {format_duration(timeout)} to read")

    @asynccontextmanager
    async def _open_response(
        self, uri: HubUri, token: Secret, max_bytes: int, timeout: timedelta
    ) -> AsyncGenerator[HubFile]:
        url = f"{self._hub.url}{uri.url_path}"
        headers = {**request_headers(token), **UNCOMPRESSED}
        revision: str | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._hub.session.stream("GET", url, headers=headers) as response:
                revision = _parse_revision(uri, response) or revision
                if response.status_code not in REDIRECT_STATUSES:
                    _expect_usable(uri, response, max_bytes)
                    pinned = _expect_pinned_revision(uri, revision)
                    yield HubFile(uri, pinned, response.aiter_raw(), max_bytes)
                    return
            url = urljoin(url, response.headers.get("location", ""))
            if urlsplit(url)[:2] != urlsplit(self._hub.url)[:2]:
                if not _is_local_hub(url, self._hub.url):
                    break
                headers.pop("authorization", None)
        else:
            raise HubAmbiguous(f"{uri} leads to more than {_MAX_REDIRECTS} redirects")
        pinned = _expect_pinned_revision(uri, revision)
        async with self._fetcher.open(url, max_bytes=max_bytes, timeout=timeout) as body:
            yield HubFile(uri, pinned, body.chunks(), max_bytes)


@contextmanager
def _as_unreachable() -> Generator[None]:
    """Report every lost answer as safe to ask for again: reading changes nothing."""
    try:
        with as_hub_errors():
            yield
    except (HubAmbiguous, FetchFailed) as error:
        raise HubUnreachable(str(error)) from None


def _is_local_hub(url: str, hub_url: str) -> bool:
    """Return whether a Hub on this machine has redirected to its other loopback name."""
    target, hub = urlsplit(url), urlsplit(hub_url)
    same_port = (target.scheme, target.port) == (hub.scheme, hub.port)
    return same_port and {target.hostname, hub.hostname} <= _LOOPBACK_HOSTS


def _parse_revision(uri: HubUri, response: httpx2.Response) -> str | None:
    names = (_COMMIT_HEADER,) if uri.has_revisions else _CONTENT_HASH_HEADERS
    values = (response.headers.get(name) for name in names)
    return next((value.strip('"') for value in values if value), None)


def _expect_pinned_revision(uri: HubUri, revision: str | None) -> str:
    if revision is None:
        raise HubAmbiguous(f"the Hub does not say which revision of {uri} it gives")
    if not uri.has_revisions and uri.revision not in {None, revision}:
        raise FetchRefused(f"{uri} has changed since it was first read.")
    return revision


def _expect_usable(uri: HubUri, response: httpx2.Response, max_bytes: int) -> None:
    try:
        raise_for_status(response)
    except HubRejected as error:
        # The Hub also answers 401 for a repository that the token may not see. With this header
        # the token itself is fine.
        hidden = error.status == HTTPStatus.UNAUTHORIZED and _ERROR_CODE_HEADER in response.headers
        status = HTTPStatus.NOT_FOUND if hidden else error.status
        raise HubRejected(status, f"{uri}: {error.message}", error.retry_after) from None
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise HubAmbiguous(f"{uri} comes compressed, though it was asked for uncompressed")
    expect_length_fits(response.headers.get("content-length", ""), max_bytes, source=uri)


def _expect_line_fits(max_line_bytes: int, line: bytes, number: int, uri: HubUri) -> bytes:
    if len(line) > max_line_bytes:
        raise FetchRefused(f"Line {number} of {uri} is longer than {max_line_bytes:,} bytes.")
    return line
