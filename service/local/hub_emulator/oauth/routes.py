"""Endpoints of the OAuth server.

Those under `/_emulator/` are for tests; the real Hub lacks them. Each needs something that no page
in a browser has: the token that it changes, or any user's token.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.current_user import get_hub_url, require_current_user
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.oauth.authorize import AuthorizationEndpoint
from service.local.hub_emulator.oauth.clients import ClientRegistration, OAuthClientStore
from service.local.hub_emulator.oauth.errors import OAuthError
from service.local.hub_emulator.oauth.grants import GrantStore
from service.local.hub_emulator.oauth.keys import ID_TOKEN_ALGORITHM, SigningKeys
from service.local.hub_emulator.oauth.token import TokenEndpoint
from service.local.hub_emulator.request_body import get_first_error, read_body
from service.local.hub_emulator.users import LocalTokenKind, LocalUser, build_userinfo


class _TokenRequest(BaseModel):
    token: str


class _LifetimeRequest(BaseModel):
    # The maximum is the longest lifetime that the Hub gives to an access token.
    seconds: Annotated[int, Field(ge=1, le=43_200 * 60)]


class OAuthRoutes:
    """The endpoints of the OAuth server."""

    def __init__(self, grants: GrantStore, users: list[LocalUser]) -> None:
        self._grants = grants
        self._clients = OAuthClientStore()
        self._keys = SigningKeys()
        self._authorize = AuthorizationEndpoint(self._clients, grants, users)
        self._token = TokenEndpoint(self._clients, grants, self._keys)

    def routes(self) -> list[Route]:
        """Return the routes."""
        authorize, token = self._authorize, self._token
        return [
            Route("/.well-known/openid-configuration", _metadata),
            Route("/.well-known/oauth-authorization-server", _metadata),
            Route("/oauth/register", self._register, methods=["POST"]),
            Route("/oauth/authorize", authorize.request_consent, methods=["GET"]),
            Route("/oauth/authorize", authorize.submit_decision, methods=["POST"]),
            Route("/oauth/token", token.issue_tokens, methods=["POST"]),
            Route("/oauth/jwks", self._jwks),
            Route("/oauth/userinfo", _userinfo, methods=["GET", "POST"]),
            Route("/_emulator/oauth/lifetime", self._set_lifetime, methods=["POST"]),
            Route(
                "/_emulator/oauth/revoke", _token_endpoint(self._grants.revoke), methods=["POST"]
            ),
            Route(
                "/_emulator/oauth/expire", _token_endpoint(self._grants.expire), methods=["POST"]
            ),
        ]

    async def _register(self, request: Request) -> Response:
        # A page of another origin cannot send this type without a CORS permission, and gets none.
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise OAuthError("invalid_client_metadata", "The body is not application/json.")
        try:
            registration = ClientRegistration.model_validate_json(await request.body())
        except ValidationError as error:
            location, message = get_first_error(error)
            is_uri = location.startswith("redirect_uris")
            code = "invalid_redirect_uri" if is_uri else "invalid_client_metadata"
            raise OAuthError(code, f"{location or 'body'}: {message}") from None
        client = self._clients.register(registration)
        headers = {"cache-control": "no-store"}
        return JSONResponse(client.to_dict(), HTTPStatus.CREATED, headers=headers)

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse(self._keys.build_jwk_set())

    async def _set_lifetime(self, request: Request) -> Response:
        require_current_user(request)
        body = await read_body(request, _LifetimeRequest)
        self._grants.access_token_lifetime = timedelta(seconds=body.seconds)
        return Response(status_code=HTTPStatus.NO_CONTENT)


async def _metadata(request: Request) -> Response:
    issuer = get_hub_url(request)
    return JSONResponse(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "userinfo_endpoint": f"{issuer}/oauth/userinfo",
            "registration_endpoint": f"{issuer}/oauth/register",
            "jwks_uri": f"{issuer}/oauth/jwks",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "token_endpoint_auth_methods_supported": [
                "none",
                "client_secret_basic",
                "client_secret_post",
            ],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ID_TOKEN_ALGORITHM],
        }
    )


async def _userinfo(request: Request) -> Response:
    user = require_current_user(request)
    if user.kind is not LocalTokenKind.OAUTH:
        raise HubApiError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    return JSONResponse(build_userinfo(user, get_hub_url(request)))


def _token_endpoint(action: Callable[[str], bool]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await read_body(request, _TokenRequest)
        is_known = action(body.token)
        return Response(status_code=HTTPStatus.NO_CONTENT if is_known else HTTPStatus.NOT_FOUND)

    return endpoint
