"""What does a client get for a code, or for a refresh token? The answer of the token endpoint."""

import base64
import binascii
import secrets
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.current_user import hub_url
from service.local.hub_emulator.oauth.clients import Client, Clients
from service.local.hub_emulator.oauth.errors import OAuthRefusal, parameters, required
from service.local.hub_emulator.oauth.grants import Asked, Grant, Grants
from service.local.hub_emulator.oauth.keys import Keys
from service.local.hub_emulator.oauth.scopes import chosen

_ID_TOKEN_LIFETIME: Final = timedelta(hours=1)
_FORM: Final = "application/x-www-form-urlencoded"


class Token:
    """The token endpoint."""

    def __init__(self, clients: Clients, grants: Grants, keys: Keys) -> None:
        self._clients = clients
        self._grants = grants
        self._keys = keys

    async def give(self, request: Request) -> Response:
        """Give tokens; `resource` is ignored, as the Hub binds no token to one (RFC 8707)."""
        if not request.headers.get("content-type", "").startswith(_FORM):
            raise OAuthRefusal("invalid_request", f"The body is not {_FORM}.")
        given = parameters((await request.form()).multi_items())
        client = self._client(request, given)
        issuer = hub_url(request)
        match required(given, "grant_type"):
            case "authorization_code":
                grant = self._grants.redeem(
                    required(given, "code"),
                    client_id=client.id,
                    redirect_uri=given.get("redirect_uri"),
                    verifier=given.get("code_verifier"),
                )
                return self._answer(grant, grant.asked.scopes, issuer)
            case "refresh_token":
                refresh_token = required(given, "refresh_token")
                scopes = self._narrowed(refresh_token, given.get("scope"))
                grant = self._grants.rotate(refresh_token, client_id=client.id)
                return self._answer(grant, scopes or grant.asked.scopes, issuer)
            case _:
                raise OAuthRefusal("unsupported_grant_type", "The Hub here has no such grant.")

    def _narrowed(self, refresh_token: str, scope: str | None) -> list[str] | None:
        """Return the fewer scopes that are asked for; looked at first, so that no token is lost."""
        if scope is None:
            return None
        scopes = chosen(scope)
        if not set(self._grants.granted(refresh_token)) >= set(scopes):
            raise OAuthRefusal("invalid_scope", "More scopes than the user allowed.")
        return scopes

    def _client(self, request: Request, given: dict[str, str]) -> Client:
        client_id, secret = given.get("client_id"), given.get("client_secret")
        if basic := request.headers.get("authorization"):
            shown, secret = _basic(basic)
            if client_id not in {None, shown}:
                raise _unproven()
            client_id = shown
        client = self._clients.get(client_id or "")
        if client is None or not client.proves(secret):
            raise _unproven()
        return client

    def _answer(self, grant: Grant, scopes: list[str], issuer: str) -> Response:
        asked, now = grant.asked, datetime.now(UTC)
        # Which claims the Hub's tokens carry besides `scope` is not documented.
        access_token = self._keys.access_token(
            {
                "iss": issuer,
                "sub": asked.user.id,
                "oauth_app": asked.client_id,
                "scope": scopes,
                "iat": now,
                "exp": now + self._grants.lifetime,
                "jti": secrets.token_hex(12),
            }
        )
        refresh_token = self._grants.remember(grant, access_token, scopes)
        answer: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": int(self._grants.lifetime.total_seconds()),
            "scope": " ".join(scopes),
            "refresh_token": refresh_token,
        }
        if "openid" in scopes:
            answer["id_token"] = self._keys.id_token(_who(asked, issuer, now))
        return JSONResponse(answer, headers={"cache-control": "no-store", "pragma": "no-cache"})


def _who(asked: Asked, issuer: str, now: datetime) -> dict[str, Any]:
    who = {
        "iss": issuer,
        "sub": asked.user.id,
        "aud": asked.client_id,
        "iat": now,
        "exp": now + _ID_TOKEN_LIFETIME,
        "preferred_username": asked.user.name,
    }
    return who | ({"nonce": asked.nonce} if asked.nonce else {})


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        shown = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise _unproven() from None
    client_id, colon, secret = shown.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise _unproven()
    return unquote_plus(client_id), unquote_plus(secret)


def _unproven() -> OAuthRefusal:
    return OAuthRefusal(
        "invalid_client",
        "The client is not registered, or did not prove that it is this one.",
        HTTPStatus.UNAUTHORIZED,
    )
