"""Where do clients register whose authorization server lets nobody register? Here, by name only.

Its metadata is repeated under our name with a place to register, and whoever registers gets the one
application that the operator made there. People sign in at the server itself, which sends them back
to addresses of that application and no others; no code and no token comes by here.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final

import httpx2
import structlog
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schema.common.async_cache import Cache, Kept
from schema.common.http import is_tamperproof
from service.auth.issuer_metadata import Publisher, Unreadable

_WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
_REGISTER: Final = "/oauth/register"
_REPEATED: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "scopes_supported",
    "response_types_supported",
    "grant_types_supported",
    "code_challenge_methods_supported",
)
"""What is still true under another name; `iss` in answers, for one, is not."""
_REPEATED_FOR: Final = timedelta(minutes=10)
_TRIED_AGAIN: Final = timedelta(seconds=5)
_LARGEST: Final = 64 * 1024

log = structlog.stdlib.get_logger()


def _comes_back_safely(url: str) -> str:
    if not is_tamperproof(url):
        message = "write https://, or http:// on this machine"
        raise ValueError(message)
    return url


_Redirect = Annotated[str, Field(max_length=2000), AfterValidator(_comes_back_safely)]


class _Registration(BaseModel):
    redirect_uris: list[_Redirect] = Field(min_length=1, max_length=10)
    client_name: Annotated[str, Field(max_length=200)] = "An MCP client"


class Proxy:
    """The authorization server's metadata, with one application for everybody."""

    def __init__(self, publisher: Publisher, public_url: str, client_id: str) -> None:
        self._publisher = publisher
        self._public_url = public_url
        self._client_id = client_id
        self._cache: Cache[dict[str, Any] | None] = Cache(size=1)

    async def describe(self, _: Request) -> Response:
        """Serve the server's metadata under our name."""
        known = await self._cache.get(b"", self._ask)
        if known is None:
            headers = {"retry-after": str(round(_TRIED_AGAIN.total_seconds()))}
            return JSONResponse({"error": "temporarily_unavailable"}, 503, headers)
        ours = {
            "issuer": self._public_url,
            "registration_endpoint": f"{self._public_url}{_REGISTER}",
            "token_endpoint_auth_methods_supported": ["none"],
        }
        return _open_to_all(ours | {name: known[name] for name in _REPEATED if name in known})

    async def register(self, request: Request) -> Response:
        """Give whoever registers the one application there is (RFC 7591)."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _open_to_all({"error": "invalid_client_metadata"}, 400)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST:
                return _open_to_all({"error": "invalid_client_metadata"}, 413)
        try:
            asked = _Registration.model_validate_json(bytes(body))
        except ValidationError:
            said = "redirect_uris has to list https:// URLs, or http:// ones on your machine."
            return _open_to_all({"error": "invalid_redirect_uri", "error_description": said}, 400)
        registered = {
            "client_id": self._client_id,
            "client_name": asked.client_name,
            "redirect_uris": asked.redirect_uris,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
        return _open_to_all(registered, 201)

    async def _ask(self) -> Kept[dict[str, Any] | None]:
        try:
            return Kept(await self._publisher.describe(), _REPEATED_FOR)
        except Unreadable as trouble:
            log.warning("proxy.metadata_missing", why=str(trouble))
            return Kept(None, _TRIED_AGAIN)


@asynccontextmanager
async def proxy(issuer: str, public_url: str, client_id: str) -> AsyncGenerator[Proxy]:
    """Open the way to the authorization server; it is asked when the first client asks."""
    async with httpx2.AsyncClient() as session:
        yield Proxy(Publisher(session, issuer, None), public_url, client_id)


async def _describe(request: Request) -> Response:
    standing_in: Proxy = request.app.state.proxy
    return await standing_in.describe(request)


async def _register(request: Request) -> Response:
    standing_in: Proxy = request.app.state.proxy
    return await standing_in.register(request)


ROUTES: Final = [
    Route(_WELL_KNOWN, _describe),
    Route(_REGISTER, _register, methods=["POST"]),
]


def _open_to_all(said: dict[str, Any], status: int = 200) -> Response:
    headers = {"access-control-allow-origin": "*", "cache-control": "no-store"}
    return JSONResponse(said, status, headers)
