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
from schema.common.durations import say
from schema.specs.inputs.hub_uri import HubPath
from workers.hub.client import (
    Ambiguous,
    Answered4xx,
    Hub,
    Unreached,
    as_hub_errors,
    headers,
    raise_for,
)
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused

_REDIRECTS: Final = 3
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost"})
_ERROR_CODE: Final = "x-error-code"
_COMMIT: Final = "x-repo-commit"
_CONTENT: Final = ("x-xet-hash", "x-linked-etag", "etag")
"""What tells the content of a file that has no revision, the surest first."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the Hub that is being read."""

    path: HubPath
    revision: str
    """The commit it was read from; in a bucket, what tells its content."""
    _pieces: AsyncGenerator[bytes]
    _limit: int

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield it piece by piece.

        Raises:
            FetchRefused: there is more of it than is taken.
        """
        received = 0
        with _harmless():
            async for chunk in self._pieces:
                received += len(chunk)
                if received > self._limit:
                    raise _too_large(self.path, self._limit)
                yield chunk

    async def lines(self, *, longest: int) -> AsyncGenerator[bytes]:
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
                    yield _within(longest, line, number, self.path).removesuffix(b"\r")
                _within(longest, rest, number + 1, self.path)
        if rest:
            yield rest.removesuffix(b"\r")


class HubFiles:
    """Reads files of the Hub."""

    def __init__(self, hub: Hub, fetcher: Fetcher) -> None:
        self._hub = hub
        self._fetcher = fetcher

    async def read(
        self, path: HubPath, token: Secret, *, limit_bytes: int, within: timedelta
    ) -> tuple[bytes, str]:
        """Read a file whole; also return its revision.

        Raises as `open` does.
        """
        async with self.open(path, token, limit_bytes=limit_bytes, within=within) as file:
            return b"".join([chunk async for chunk in file.chunks()]), file.revision

    @asynccontextmanager
    async def open(
        self, path: HubPath, token: Secret, *, limit_bytes: int, within: timedelta
    ) -> AsyncGenerator[HubFile]:
        """Open a file; the block, and all that is read in it, takes so long at most.

        Raises:
            Answered4xx: the Hub does not give it to this token.
            FetchRefused: it is too large, or is not what it was when it was pinned.
            Unreached: it could not be had this time; trying again is harmless.
        """
        async with AsyncExitStack() as stack:
            waiting = stack.enter_context(anyio.move_on_after(within.total_seconds()))
            with _harmless():
                answer = self._answer(path, token, limit_bytes, within)
                file = await stack.enter_async_context(answer)
            yield file
        if waiting.cancelled_caught:
            raise Unreached(f"{path} took longer than {say(within)} to read")

    @asynccontextmanager
    async def _answer(
        self, path: HubPath, token: Secret, limit: int, within: timedelta
    ) -> AsyncGenerator[HubFile]:
        url = f"{self._hub.url}{path.url_path}"
        # As it is: a few bytes that unpack to gigabytes would be unpacked at once.
        sent = {**headers(token), "accept-encoding": "identity"}
        revision: str | None = None
        for _ in range(_REDIRECTS + 1):
            async with self._hub.session.stream("GET", url, headers=sent) as response:
                revision = _revision(path, response) or revision
                if response.status_code not in _MOVED:
                    _expect_usable(path, response, limit)
                    pinned = _pinned(path, revision)
                    yield HubFile(path, pinned, response.aiter_raw(), limit)
                    return
            url = urljoin(url, response.headers.get("location", ""))
            if urlsplit(url)[:2] != urlsplit(self._hub.url)[:2]:
                if not _is_local_hub(url, self._hub.url):
                    break
                sent.pop("authorization", None)
        else:
            raise Ambiguous(f"{path} leads on and on")
        pinned = _pinned(path, revision)
        async with self._fetcher.open(url, limit_bytes=limit, within=within) as body:
            yield HubFile(path, pinned, body.chunks(), limit)


@contextmanager
def _harmless() -> Generator[None]:
    """Let whatever was lost be asked for again: reading changes nothing."""
    try:
        with as_hub_errors():
            yield
    except (Ambiguous, FetchFailed) as error:
        raise Unreached(str(error)) from None


def _is_local_hub(url: str, hub: str) -> bool:
    """Tell whether a Hub on this machine has sent us to its own other name, and no further."""
    there, here = urlsplit(url), urlsplit(hub)
    same = (there.scheme, there.port) == (here.scheme, here.port)
    return same and {there.hostname, here.hostname} <= _THIS_MACHINE


def _revision(path: HubPath, response: httpx2.Response) -> str | None:
    names = (_COMMIT,) if path.has_revisions else _CONTENT
    found = (response.headers.get(name) for name in names)
    return next((value.strip('"') for value in found if value), None)


def _pinned(path: HubPath, revision: str | None) -> str:
    if revision is None:
        raise Ambiguous(f"the Hub does not say which revision of {path} it gives")
    if not path.has_revisions and path.revision not in {None, revision}:
        raise FetchRefused(f"{path} has changed since it was first read.")
    return revision


def _expect_usable(path: HubPath, response: httpx2.Response, limit: int) -> None:
    try:
        raise_for(response)
    except Answered4xx as no:
        # A repository one may not see is also answered so; that says nothing against the token.
        unseen = no.status == _UNAUTHORIZED and _ERROR_CODE in response.headers
        status = _NOT_FOUND if unseen else no.status
        raise Answered4xx(status, f"{path}: {no.message}", no.retry_after) from None
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Ambiguous(f"{path} comes compressed, though it was not to be")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(path, limit)


def _within(longest: int, line: bytes, number: int, path: HubPath) -> bytes:
    if len(line) > longest:
        raise FetchRefused(f"Line {number} of {path} is longer than {longest:,} bytes.")
    return line


def _too_large(path: HubPath, limit: int) -> FetchRefused:
    return FetchRefused(f"{path} is larger than {limit:,} bytes, which is what is taken.")
