"""What has a user allowed a client, and which codes and tokens stand for that now?

A code and a refresh token are used once. One that comes back may have been stolen, and nobody can
say by whom, so it ends all that came of the same consent (RFC 9700, sections 2.1.1 and 4.14.2;
whether the Hub does this for refresh tokens is not documented).
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.errors import OAuthError
from service.local.hub_emulator.users import LocalTokenKind, LocalUser, format_timestamp

CODE_LIFETIME: Final = timedelta(seconds=60)
ACCESS_TOKEN_LIFETIME: Final = timedelta(seconds=28_800)
_CHALLENGE_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER_PATTERN: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks a user for, and how it will prove that it was the one who asked."""

    client_id: str
    redirect_uri: str
    user: LocalUser
    scopes: list[str]
    orgs: list[str]
    """By name, and only those the user belongs to."""
    code_challenge: str | None
    state: str | None
    nonce: str | None

    @property
    def consent_key(self) -> str:
        """What is the same in two requests that need one consent."""
        scopes, orgs = " ".join(sorted(self.scopes)), " ".join(sorted(self.orgs))
        return f"{self.user.name}/{self.client_id}/{scopes}/{orgs}"


@dataclass(slots=True)
class Grant:
    """What one consent gave; tokens are of one, and end with it."""

    authorization: AuthorizationRequest
    revoked: bool = False


@dataclass(slots=True)
class _SingleUseToken:
    """A code or a refresh token."""

    grant: Grant
    expires_at: datetime | None = None
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class _IssuedAccessToken:
    grant: Grant
    user: LocalUser


def is_code_challenge(challenge: str) -> bool:
    """Say whether it can be the SHA-256 digest of a verifier."""
    return _CHALLENGE_PATTERN.fullmatch(challenge) is not None


class GrantStore:
    """Every code and token that was given lately."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._codes: BoundedCache[_SingleUseToken] = BoundedCache()
        self._refresh_tokens: BoundedCache[_SingleUseToken] = BoundedCache()
        self._access_tokens: BoundedCache[_IssuedAccessToken] = BoundedCache()
        self._consents: BoundedCache[None] = BoundedCache()
        self.access_token_lifetime = ACCESS_TOKEN_LIFETIME
        """Of the access tokens that are given from now on."""

    def has_consent(self, authorization: AuthorizationRequest) -> bool:
        """Say whether the user allowed just this already; the Hub does not ask again then."""
        return authorization.consent_key in self._consents

    def issue_code(self, authorization: AuthorizationRequest) -> str:
        """Note a consent, and return the code that stands for it."""
        self._consents.put(authorization.consent_key, None)
        code = secrets.token_urlsafe(32)
        self._codes.put(code, _SingleUseToken(Grant(authorization), self._clock() + CODE_LIFETIME))
        return code

    def redeem_code(
        self, code: str, *, client_id: str, redirect_uri: str | None, verifier: str | None
    ) -> Grant:
        """Take a code from the client it was given to, once.

        Raises:
            OAuthRefusal: it is not that client, not the one who asked, or not for the first time.
        """
        known = self._require_usable(self._codes.get(code), client_id)
        if redirect_uri != known.grant.authorization.redirect_uri:
            raise _invalid_grant_error(
                "The redirect URI is not the one of the authorization request."
            )
        if not _is_verifier_valid(verifier, known.grant.authorization.code_challenge):
            raise _invalid_grant_error("The code verifier does not fit.")
        known.is_used = True
        return known.grant

    def rotate_refresh_token(self, refresh_token: str, *, client_id: str) -> Grant:
        """Take a refresh token from the client it was given to, once.

        Raises:
            OAuthRefusal: it is not that client, or not for the first time.
        """
        known = self._require_usable(self._refresh_tokens.get(refresh_token), client_id)
        known.is_used = True
        return known.grant

    def get_granted_scopes(self, refresh_token: str) -> list[str]:
        """Return the scopes that a refresh token is for."""
        known = self._refresh_tokens.get(refresh_token)
        return known.grant.authorization.scopes if known else []

    def store_access_token(self, grant: Grant, access_token: str, scopes: list[str]) -> str:
        """Keep an access token that was made for a grant, and return a refresh token beside it."""
        caller = replace(
            grant.authorization.user,
            kind=LocalTokenKind.OAUTH,
            token=access_token,
            orgs=grant.authorization.orgs,
            expires_at=format_timestamp(self._clock() + self.access_token_lifetime),
            permissions=None,
            scopes=scopes,
        )
        self._access_tokens.put(access_token, _IssuedAccessToken(grant, caller))
        refresh_token = f"hf_oauth__refresh_{secrets.token_urlsafe(32)}"
        self._refresh_tokens.put(refresh_token, _SingleUseToken(grant))
        return refresh_token

    def find_user(self, access_token: str) -> LocalUser | None:
        """Return whose token this is, unless it was taken back; it may have expired."""
        known = self._access_tokens.get(access_token)
        return None if known is None or known.grant.revoked else known.user

    def revoke(self, token: str) -> bool:
        """Take back the consent that a code or a token came of; say whether there was one."""
        known = (
            self._access_tokens.get(token)
            or self._refresh_tokens.get(token)
            or self._codes.get(token)
        )
        if known is None:
            return False
        known.grant.revoked = True
        self._consents.pop(known.grant.authorization.consent_key)
        return True

    def expire(self, token: str) -> bool:
        """Let a code or a token expire now; say whether it was known."""
        now = self._clock()
        if access := self._access_tokens.get(token):
            ended = replace(access.user, expires_at=format_timestamp(now))
            self._access_tokens.put(token, _IssuedAccessToken(access.grant, ended))
            return True
        if once := self._codes.get(token) or self._refresh_tokens.get(token):
            once.expires_at = now
            return True
        return False

    def _require_usable(self, token: _SingleUseToken | None, client_id: str) -> _SingleUseToken:
        if token is None or token.grant.authorization.client_id != client_id or token.grant.revoked:
            raise _invalid_grant_error(
                "It is unknown, was taken back, or belongs to another client."
            )
        if token.is_used:
            token.grant.revoked = True
            raise _invalid_grant_error(
                "It was used before. All that came of the same consent has ended."
            )
        if token.expires_at is not None and token.expires_at <= self._clock():
            raise _invalid_grant_error("It has expired.")
        return token


def _is_verifier_valid(verifier: str | None, challenge: str | None) -> bool:
    # One without the other may be an attacker's, who left the challenge out: RFC 9700, 2.1.1.
    if verifier is None or challenge is None:
        return verifier is challenge
    if not _VERIFIER_PATTERN.fullmatch(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    return hmac.compare_digest(digest.rstrip(b"="), challenge.encode())


def _invalid_grant_error(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)
