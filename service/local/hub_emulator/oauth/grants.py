"""The consents of users, and the codes and tokens that were issued for them.

Codes and refresh tokens can be used once. If one is used a second time, one of the two users may
have stolen it, and the server cannot know which. So everything that came of the same consent is
revoked (RFC 9700, sections 2.1.1 and 4.14.2; the Hub does not document it for refresh tokens).
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.errors import OAuthError
from service.local.hub_emulator.shared.clock import read_clock
from service.local.hub_emulator.users import LocalTokenKind, LocalUser, format_timestamp

CODE_LIFETIME: Final = timedelta(seconds=60)
ACCESS_TOKEN_LIFETIME: Final = timedelta(seconds=28_800)
_CHALLENGE_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER_PATTERN: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks a user for, and how it will prove that it has made the request."""

    client_id: str
    redirect_uri: str
    user: LocalUser
    scopes: list[str]
    orgs: list[str]
    """Names of organisations that the user belongs to."""
    code_challenge: str | None
    state: str | None
    nonce: str | None

    @property
    def consent_key(self) -> str:
        """A key that is equal for requests that need the same consent."""
        scopes, orgs = " ".join(sorted(self.scopes)), " ".join(sorted(self.orgs))
        return f"{self.user.name}/{self.client_id}/{scopes}/{orgs}"


@dataclass(slots=True)
class Grant:
    """One consent; it ends all its tokens when it is revoked."""

    authorization: AuthorizationRequest
    revoked: bool = False


@dataclass(slots=True)
class _SingleUseToken:
    """A code or a refresh token; a refresh token does not expire."""

    grant: Grant
    expires_at: datetime | None = None
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class _IssuedAccessToken:
    grant: Grant
    user: LocalUser


def is_code_challenge(challenge: str) -> bool:
    """Say whether a challenge has the form of a SHA-256 digest."""
    return _CHALLENGE_PATTERN.fullmatch(challenge) is not None


class GrantStore:
    """The codes and tokens that were issued most recently."""

    def __init__(self, clock: Callable[[], datetime] = read_clock) -> None:
        self._clock = clock
        self._codes: BoundedCache[_SingleUseToken] = BoundedCache()
        self._refresh_tokens: BoundedCache[_SingleUseToken] = BoundedCache()
        self._access_tokens: BoundedCache[_IssuedAccessToken] = BoundedCache()
        self._consents: BoundedCache[None] = BoundedCache()
        self.access_token_lifetime = ACCESS_TOKEN_LIFETIME
        """The lifetime of access tokens that are issued from now on."""

    def has_consent(self, authorization: AuthorizationRequest) -> bool:
        """Say whether the user has given the same consent before; then the Hub does not ask."""
        return authorization.consent_key in self._consents

    def issue_code(self, authorization: AuthorizationRequest) -> str:
        """Record a consent, and return a code for it."""
        self._consents.put(authorization.consent_key, None)
        code = secrets.token_urlsafe(32)
        self._codes.put(code, _SingleUseToken(Grant(authorization), self._clock() + CODE_LIFETIME))
        return code

    def redeem_code(
        self, code: str, *, client_id: str, redirect_uri: str | None, verifier: str | None
    ) -> Grant:
        """Use a code, which its client can do once, and return its grant.

        Raises:
            OAuthError: another client sends it, without the right proof, or it was used before.
        """
        token = self._require_usable(self._codes.get(code), client_id)
        if redirect_uri != token.grant.authorization.redirect_uri:
            raise _invalid_grant_error(
                "The redirect URI is not the one of the authorization request."
            )
        if not _is_verifier_valid(verifier, token.grant.authorization.code_challenge):
            raise _invalid_grant_error("The code verifier does not fit.")
        token.is_used = True
        return token.grant

    def redeem_refresh_token(self, refresh_token: str, *, client_id: str) -> Grant:
        """Use a refresh token, which its client can do once, and return its grant.

        Raises:
            OAuthError: another client sends it, or it was used before.
        """
        token = self._require_usable(self._refresh_tokens.get(refresh_token), client_id)
        token.is_used = True
        return token.grant

    def get_granted_scopes(self, refresh_token: str) -> list[str]:
        """Return the scopes of a refresh token's grant; empty if it is unknown."""
        token = self._refresh_tokens.get(refresh_token)
        return token.grant.authorization.scopes if token else []

    def issue_refresh_token(self, grant: Grant) -> str:
        """Return a new refresh token for a grant."""
        refresh_token = f"hf_oauth__refresh_{secrets.token_urlsafe(32)}"
        self._refresh_tokens.put(refresh_token, _SingleUseToken(grant))
        return refresh_token

    def store_access_token(self, grant: Grant, access_token: str, scopes: list[str]) -> None:
        """Store an access token of a grant, so that `find_user` knows it."""
        user = replace(
            grant.authorization.user,
            kind=LocalTokenKind.OAUTH,
            token=access_token,
            orgs=grant.authorization.orgs,
            expires_at=format_timestamp(self._clock() + self.access_token_lifetime),
            permissions=None,
            scopes=scopes,
        )
        self._access_tokens.put(access_token, _IssuedAccessToken(grant, user))

    def find_user(self, access_token: str) -> LocalUser | None:
        """Return the user of an access token; None if it is unknown or revoked, not if expired."""
        token = self._access_tokens.get(access_token)
        return None if token is None or token.grant.revoked else token.user

    def revoke(self, token: str) -> bool:
        """Revoke the consent of a code or token; return whether the token was known."""
        issued = (
            self._access_tokens.get(token)
            or self._refresh_tokens.get(token)
            or self._codes.get(token)
        )
        if issued is None:
            return False
        issued.grant.revoked = True
        self._consents.pop(issued.grant.authorization.consent_key)
        return True

    def expire(self, token: str) -> bool:
        """Let a code or token expire now; return whether it was known."""
        now = self._clock()
        if access_token := self._access_tokens.get(token):
            user = replace(access_token.user, expires_at=format_timestamp(now))
            self._access_tokens.put(token, _IssuedAccessToken(access_token.grant, user))
            return True
        if single_use := self._codes.get(token) or self._refresh_tokens.get(token):
            single_use.expires_at = now
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
    # A verifier without a challenge may mean that an attacker removed it: RFC 9700, 2.1.1.
    if verifier is None or challenge is None:
        return verifier is challenge
    if not _VERIFIER_PATTERN.fullmatch(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    return hmac.compare_digest(digest.rstrip(b"="), challenge.encode())


def _invalid_grant_error(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)
