"""Token endpoint: it exchanges a code or a refresh token for new tokens."""

import base64
import binascii
import secrets
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.current_user import get_hub_url
from service.local.hub_emulator.oauth.clients import OAuthClient, OAuthClientStore
from service.local.hub_emulator.oauth.errors import OAuthError, read_parameters, require_parameter
from service.local.hub_emulator.oauth.grants import AuthorizationRequest, Grant, GrantStore
from service.local.hub_emulator.oauth.keys import SigningKeys
from service.local.hub_emulator.oauth.scopes import parse_scope
from service.local.hub_emulator.shared.clock import read_clock

_ID_TOKEN_LIFETIME: Final = timedelta(hours=1)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class TokenEndpoint:
    """The token endpoint."""

    def __init__(self, clients: OAuthClientStore, grants: GrantStore, keys: SigningKeys) -> None:
        self._clients = clients
        self._grants = grants
        self._keys = keys

    async def issue_tokens(self, request: Request) -> Response:
        """Issue tokens; like the Hub it ignores `resource` and binds no token to one (RFC 8707)."""
        if not request.headers.get("content-type", "").startswith(_FORM_TYPE):
            raise OAuthError("invalid_request", f"The body is not {_FORM_TYPE}.")
        parameters = read_parameters((await request.form()).multi_items())
        client = self._authenticate_client(request, parameters)
        issuer = get_hub_url(request)
        match require_parameter(parameters, "grant_type"):
            case "authorization_code":
                grant = self._grants.redeem_code(
                    require_parameter(parameters, "code"),
                    client_id=client.id,
                    redirect_uri=parameters.get("redirect_uri"),
                    verifier=parameters.get("code_verifier"),
                )
                return self._build_token_response(grant, grant.authorization.scopes, issuer)
            case "refresh_token":
                refresh_token = require_parameter(parameters, "refresh_token")
                scopes = self._narrow_scopes(refresh_token, parameters.get("scope"))
                grant = self._grants.redeem_refresh_token(refresh_token, client_id=client.id)
                return self._build_token_response(
                    grant, scopes or grant.authorization.scopes, issuer
                )
            case _:
                raise OAuthError("unsupported_grant_type", "The Hub here has no such grant.")

    def _narrow_scopes(self, refresh_token: str, scope: str | None) -> list[str] | None:
        """Return the scopes that the client asks for, which must be granted ones; None for all.

        It runs before the refresh token is used, so a wrong scope does not cost the token.
        """
        if scope is None:
            return None
        scopes = parse_scope(scope)
        if not set(self._grants.get_granted_scopes(refresh_token)) >= set(scopes):
            raise OAuthError("invalid_scope", "More scopes than the user allowed.")
        return scopes

    def _authenticate_client(self, request: Request, parameters: dict[str, str]) -> OAuthClient:
        client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
        if basic := request.headers.get("authorization"):
            basic_client_id, secret = _parse_basic_auth(basic)
            if client_id not in {None, basic_client_id}:
                raise _invalid_client_error()
            client_id = basic_client_id
        client = self._clients.get(client_id or "")
        if client is None or not client.accepts_secret(secret):
            raise _invalid_client_error()
        return client

    def _build_token_response(self, grant: Grant, scopes: list[str], issuer: str) -> Response:
        authorization, now = grant.authorization, read_clock()
        # The Hub does not document which claims its tokens have besides `scope`.
        access_token = self._keys.sign_access_token(
            {
                "iss": issuer,
                "sub": authorization.user.id,
                "oauth_app": authorization.client_id,
                "scope": scopes,
                "iat": now,
                "exp": now + self._grants.access_token_lifetime,
                "jti": secrets.token_hex(12),
            }
        )
        self._grants.store_access_token(grant, access_token, scopes)
        answer: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": int(self._grants.access_token_lifetime.total_seconds()),
            "scope": " ".join(scopes),
            "refresh_token": self._grants.issue_refresh_token(grant),
        }
        if "openid" in scopes:
            answer["id_token"] = self._keys.sign_id_token(
                _build_id_token_claims(authorization, issuer, now)
            )
        return JSONResponse(answer, headers={"cache-control": "no-store", "pragma": "no-cache"})


def _build_id_token_claims(
    authorization: AuthorizationRequest, issuer: str, now: datetime
) -> dict[str, Any]:
    claims = {
        "iss": issuer,
        "sub": authorization.user.id,
        "aud": authorization.client_id,
        "iat": now,
        "exp": now + _ID_TOKEN_LIFETIME,
        "preferred_username": authorization.user.name,
    }
    return claims | ({"nonce": authorization.nonce} if authorization.nonce else {})


def _parse_basic_auth(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        credentials = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid_client_error() from None
    client_id, colon, secret = credentials.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise _invalid_client_error()
    return unquote_plus(client_id), unquote_plus(secret)


def _invalid_client_error() -> OAuthError:
    return OAuthError(
        "invalid_client",
        "The client is not registered, or did not prove that it is this one.",
        HTTPStatus.UNAUTHORIZED,
    )
