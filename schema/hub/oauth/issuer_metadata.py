"""Client for the metadata and the key set of an authorization server (RFC 8414, OpenID)."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from schema.common.http import is_secure_url
from schema.common.version import package_version

T = TypeVar("T")

_CONNECT_TIMEOUT_SECONDS: Final = 3.0
_TIMEOUT_SECONDS: Final = 5.0
_MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""A key set with certificates in it takes about a tenth of this."""
_WELL_KNOWN_NAMES: Final = ("oauth-authorization-server", "openid-configuration")


class IssuerMetadataError(Exception):
    """A document cannot be fetched or read; the text is for the operator, callers do not see it."""


class _IssuerDocument(BaseModel):
    issuer: str


class _MetadataDocument(BaseModel):
    jwks_uri: str


_JSON_OBJECT: Final = TypeAdapter(dict[str, Any])


class IssuerMetadataClient:
    """Fetches what one authorization server publishes, and believes no other server about it."""

    def __init__(self, session: httpx2.AsyncClient, issuer: str, jwks_url: str | None) -> None:
        self._session = session
        self._issuer = issuer
        self._configured_jwks_url = jwks_url
        self._discovered_jwks_url: str | None = None

    async def fetch_key_set(self) -> bytes:
        """Fetch the key set.

        Raises:
            IssuerMetadataError: its address is unknown, or it cannot be fetched.
        """
        try:
            with anyio.fail_after(_TIMEOUT_SECONDS):
                url = (
                    self._configured_jwks_url
                    or self._discovered_jwks_url
                    or await self._discover_jwks_url()
                )
                document = await self._fetch(url)
        except TimeoutError:
            self._discovered_jwks_url = None
            raise IssuerMetadataError(f"no answer within {_TIMEOUT_SECONDS:.0f} seconds") from None
        except IssuerMetadataError:
            # The key set may have moved.
            self._discovered_jwks_url = None
            raise
        self._discovered_jwks_url = url
        return document

    async def fetch_metadata(self) -> dict[str, Any]:
        """Fetch the metadata of the server.

        Raises:
            IssuerMetadataError: they cannot be fetched, or are those of another issuer.
        """
        try:
            with anyio.fail_after(_TIMEOUT_SECONDS):
                return await self._read_metadata(
                    lambda _, document: _JSON_OBJECT.validate_json(document)
                )
        except TimeoutError:
            raise IssuerMetadataError(f"no answer within {_TIMEOUT_SECONDS:.0f} seconds") from None

    async def _discover_jwks_url(self) -> str:
        return await self._read_metadata(self._parse_jwks_url)

    async def _read_metadata(self, parse: Callable[[str, bytes], T]) -> T:
        messages: list[str] = []
        for url in _metadata_urls(self._issuer):
            try:
                document = await self._fetch(url)
                self._require_issuer(url, document)
                return parse(url, document)
            except IssuerMetadataError as error:
                messages.append(str(error))
        raise IssuerMetadataError("; ".join(messages))

    def _require_issuer(self, url: str, document: bytes) -> None:
        try:
            issuer = _IssuerDocument.model_validate_json(document).issuer
        except ValidationError:
            raise IssuerMetadataError(f"{url} names no issuer") from None
        if issuer != self._issuer:
            raise IssuerMetadataError(f"{url} speaks for {issuer!r}, not for {self._issuer!r}")

    def _parse_jwks_url(self, url: str, document: bytes) -> str:
        try:
            metadata = _MetadataDocument.model_validate_json(document)
        except ValidationError:
            raise IssuerMetadataError(f"{url} names no jwks_uri") from None
        if not is_trusted_endpoint(metadata.jwks_uri, self._issuer):
            raise IssuerMetadataError(
                f"{url} has its keys at {metadata.jwks_uri!r}, which is not HTTPS"
            )
        return metadata.jwks_uri

    async def _fetch(self, url: str) -> bytes:
        # Not compressed: a few bytes may unpack to any size.
        headers = {"accept-encoding": "identity", "user-agent": f"holdfast/{package_version()}"}
        timeout = httpx2.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS)
        body = bytearray()
        try:
            async with self._session.stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=False
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    raise IssuerMetadataError(f"{url} answers {response.status_code}")
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_DOCUMENT_BYTES:
                        raise IssuerMetadataError(
                            f"{url} is longer than {_MAX_DOCUMENT_BYTES} bytes"
                        )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise IssuerMetadataError(f"{url}: {type(error).__name__}") from error
        return bytes(body)


def is_trusted_endpoint(url: str, issuer: str) -> bool:
    """Say whether a URL in the metadata of an issuer is secure.

    An issuer without TLS, which the operator has allowed, may name others of its own host.
    """
    own = urlsplit(issuer)
    plain_hosts = [own.hostname] if own.scheme == "http" and own.hostname else []
    return is_secure_url(url, plain_hosts=plain_hosts)


def _metadata_urls(issuer: str) -> list[str]:
    """List the addresses in the order of MCP clients: RFC 8414, then the two forms of OpenID."""
    base = issuer.rstrip("/")
    parts = urlsplit(base)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path
    urls = [f"{root}/.well-known/{name}{path}" for name in _WELL_KNOWN_NAMES]
    return [*urls, f"{base}/.well-known/openid-configuration"] if path else urls
