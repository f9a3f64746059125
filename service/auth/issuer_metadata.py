"""Where does an authorization server publish its keys? Only it is asked, and only it may say."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.common.http import is_tamperproof, release

T = TypeVar("T")

_CONNECT: Final = 3.0
_TOTAL: Final = 5.0
_LARGEST: Final = 256 * 1024
"""Servers that put their certificates into the set as well need a tenth of it."""
_NAMES: Final = ("oauth-authorization-server", "openid-configuration")


class Unreadable(Exception):
    """A document could not be had; the text is for the operator, and no caller sees it."""


class _Issuer(BaseModel):
    issuer: str


class _Metadata(BaseModel):
    jwks_uri: str


_DOCUMENT: Final = TypeAdapter(dict[str, Any])


class Publisher:
    """An authorization server, as the one who knows what it signs with."""

    def __init__(self, session: httpx2.AsyncClient, issuer: str, jwks_url: str | None) -> None:
        self._session = session
        self._issuer = issuer
        self._told = jwks_url
        self._discovered: str | None = None

    async def fetch(self) -> bytes:
        """Fetch the set of keys.

        Raises:
            Unreadable: it cannot be found, or had.
        """
        try:
            with anyio.fail_after(_TOTAL):
                url = self._told or self._discovered or await self._discover()
                document = await self._get(url)
        except TimeoutError:
            self._discovered = None
            raise Unreadable(f"no answer within {_TOTAL:.0f} seconds") from None
        except Unreadable:
            # It may have moved.
            self._discovered = None
            raise
        self._discovered = url
        return document

    async def describe(self) -> dict[str, Any]:
        """Fetch what the server says of itself.

        Raises:
            Unreadable: it cannot be found, or speaks for somebody else.
        """
        try:
            with anyio.fail_after(_TOTAL):
                return await self._find(lambda _, document: _DOCUMENT.validate_json(document))
        except TimeoutError:
            raise Unreadable(f"no answer within {_TOTAL:.0f} seconds") from None

    async def _discover(self) -> str:
        return await self._find(self._jwks_uri)

    async def _find(self, read: Callable[[str, bytes], T]) -> T:
        troubles: list[str] = []
        for url in _well_known(self._issuer):
            try:
                document = await self._get(url)
                self._must_be_ours(url, document)
                return read(url, document)
            except Unreadable as trouble:
                troubles.append(str(trouble))
        raise Unreadable("; ".join(troubles))

    def _must_be_ours(self, url: str, document: bytes) -> None:
        try:
            said = _Issuer.model_validate_json(document).issuer
        except ValidationError:
            raise Unreadable(f"{url} names no issuer") from None
        if said != self._issuer:
            raise Unreadable(f"{url} speaks for {said!r}, not for {self._issuer!r}")

    def _jwks_uri(self, url: str, document: bytes) -> str:
        try:
            metadata = _Metadata.model_validate_json(document)
        except ValidationError:
            raise Unreadable(f"{url} names no jwks_uri") from None
        if not is_tamperproof(metadata.jwks_uri):
            raise Unreadable(f"{url} has its keys at {metadata.jwks_uri!r}, which is not HTTPS")
        return metadata.jwks_uri

    async def _get(self, url: str) -> bytes:
        # Nothing compressed: what a few bytes unpack to has no bound.
        headers = {"accept-encoding": "identity", "user-agent": f"holdfast/{release()}"}
        timeout = httpx2.Timeout(_TOTAL, connect=_CONNECT)
        body = bytearray()
        try:
            async with self._session.stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=False
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    raise Unreadable(f"{url} answers {response.status_code}")
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _LARGEST:
                        raise Unreadable(f"{url} is longer than {_LARGEST} bytes")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unreadable(f"{url}: {type(error).__name__}") from error
        return bytes(body)


def _well_known(issuer: str) -> list[str]:
    """List where metadata may be, as MCP clients look for it: RFC 8414, then OpenID's two forms."""
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path
    urls = [f"{root}/.well-known/{name}{path}" for name in _NAMES]
    return [*urls, f"{base}/.well-known/openid-configuration"] if path else urls
