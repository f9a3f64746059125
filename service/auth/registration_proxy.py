"""Registration proxy for an authorization server that does not let clients register (RFC 7591).

It serves the metadata of that server under our name, with a registration endpoint; every client
that registers gets the one application that the operator made there. People sign in at the server
itself, which sends them back to the addresses of that application and to no others. No code and no
token passes through here.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

import httpx2
import structlog
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schema.common.async_cache import AsyncCache, CacheEntry
from schema.common.http import is_secure_url, retry_after_header
from service.auth.issuer_metadata import IssuerMetadataClient, IssuerMetadataError

_METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
_REGISTRATION_PATH: Final = "/oauth/register"
_COPIED_FIELDS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "scopes_supported",
    "response_types_supported",
    "grant_types_supported",
    "code_challenge_methods_supported",
)
"""What is still true under our name; `iss` in answers, for example, is not."""
_METADATA_LIFETIME: Final = timedelta(minutes=10)
_RETRY_AFTER: Final = timedelta(seconds=5)
_MAX_BODY_BYTES: Final = 64 * 1024

log = structlog.stdlib.get_logger()


def _require_tamperproof(url: str) -> str:
    if not is_secure_url(url):
        message = "write https://, or http:// on this machine"
        raise ValueError(message)
    return url


_Redirect = Annotated[str, Field(max_length=2000), AfterValidator(_require_tamperproof)]


class _Registration(BaseModel):
    redirect_uris: list[_Redirect] = Field(min_length=1, max_length=10)
    client_name: Annotated[str, Field(max_length=200)] = "An MCP client"


class RegistrationProxy:
    """Serves the metadata of an authorization server, and one application for everybody."""

    def __init__(
        self, metadata_client: IssuerMetadataClient, public_url: str, client_id: str
    ) -> None:
        self._metadata_client = metadata_client
        self._public_url = public_url
        self._client_id = client_id
        self._cache: AsyncCache[dict[str, Any] | None] = AsyncCache(max_entries=1)

    async def serve_metadata(self, _: Request) -> Response:
        """Serve the metadata of the authorization server under our name."""
        metadata = await self._cache.get_or_load(b"", self._fetch_metadata)
        if metadata is None:
            return JSONResponse(
                {"error": "temporarily_unavailable"},
                HTTPStatus.SERVICE_UNAVAILABLE,
                retry_after_header(_RETRY_AFTER),
            )
        own_fields = {
            "issuer": self._public_url,
            "registration_endpoint": f"{self._public_url}{_REGISTRATION_PATH}",
            "token_endpoint_auth_methods_supported": ["none"],
        }
        return _cors_response(
            own_fields | {name: metadata[name] for name in _COPIED_FIELDS if name in metadata}
        )

    async def register_client(self, request: Request) -> Response:
        """Answer every registration with the one application."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _cors_response({"error": "invalid_client_metadata"}, HTTPStatus.BAD_REQUEST)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                return _cors_response(
                    {"error": "invalid_client_metadata"}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                )
        try:
            registration = _Registration.model_validate_json(bytes(body))
        except ValidationError:
            sentence = "redirect_uris has to list https:// URLs, or http:// ones on your machine."
            return _cors_response(
                {"error": "invalid_redirect_uri", "error_description": sentence},
                HTTPStatus.BAD_REQUEST,
            )
        client = {
            "client_id": self._client_id,
            "client_name": registration.client_name,
            "redirect_uris": registration.redirect_uris,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
        return _cors_response(client, HTTPStatus.CREATED)

    async def _fetch_metadata(self) -> CacheEntry[dict[str, Any] | None]:
        try:
            return CacheEntry(await self._metadata_client.fetch_metadata(), _METADATA_LIFETIME)
        except IssuerMetadataError as error:
            log.warning("proxy.metadata_missing", why=str(error))
            return CacheEntry(None, _RETRY_AFTER)


@asynccontextmanager
async def open_registration_proxy(
    issuer: str, public_url: str, client_id: str
) -> AsyncGenerator[RegistrationProxy]:
    """Open a proxy; it asks the authorization server when the first client asks."""
    async with httpx2.AsyncClient() as session:
        yield RegistrationProxy(IssuerMetadataClient(session, issuer, None), public_url, client_id)


async def _serve_metadata(request: Request) -> Response:
    proxy: RegistrationProxy = request.app.state.registration_proxy
    return await proxy.serve_metadata(request)


async def _register_client(request: Request) -> Response:
    proxy: RegistrationProxy = request.app.state.registration_proxy
    return await proxy.register_client(request)


ROUTES: Final = [
    Route(_METADATA_PATH, _serve_metadata),
    Route(_REGISTRATION_PATH, _register_client, methods=["POST"]),
]


def _cors_response(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"access-control-allow-origin": "*", "cache-control": "no-store"}
    return JSONResponse(body, status, headers)
