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

from service.local.hub_emulator.oauth.bounded_cache import Recent
from service.local.hub_emulator.oauth.errors import OAuthRefusal
from service.local.hub_emulator.users import LocalUser, TokenKind, written

CODE_LIFETIME: Final = timedelta(seconds=60)
LIFETIME: Final = timedelta(seconds=28_800)
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks a user for, and how it will prove that it was the one who asked."""

    client_id: str
    redirect_uri: str
    user: LocalUser
    scopes: list[str]
    orgs: list[str]
    """By name, and only those the user belongs to."""
    challenge: str | None
    state: str | None
    nonce: str | None

    @property
    def consent(self) -> str:
        """What is the same in two requests that need one consent."""
        scopes, orgs = " ".join(sorted(self.scopes)), " ".join(sorted(self.orgs))
        return f"{self.user.name}/{self.client_id}/{scopes}/{orgs}"


@dataclass(slots=True)
class Grant:
    """What one consent gave; tokens are of one, and end with it."""

    asked: Asked
    revoked: bool = False


@dataclass(slots=True)
class _Once:
    """A code or a refresh token."""

    grant: Grant
    expires_at: datetime | None = None
    spent: bool = False


@dataclass(frozen=True, slots=True)
class _Access:
    grant: Grant
    caller: LocalUser


def is_challenge(challenge: str) -> bool:
    """Say whether it can be the SHA-256 digest of a verifier."""
    return _CHALLENGE.fullmatch(challenge) is not None


class Grants:
    """Every code and token that was given lately."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._codes: Recent[_Once] = Recent()
        self._refresh: Recent[_Once] = Recent()
        self._access: Recent[_Access] = Recent()
        self._consents: Recent[None] = Recent()
        self.lifetime = LIFETIME
        """Of the access tokens that are given from now on."""

    def allowed_before(self, asked: Asked) -> bool:
        """Say whether the user allowed just this already; the Hub does not ask again then."""
        return asked.consent in self._consents

    def code(self, asked: Asked) -> str:
        """Note a consent, and return the code that stands for it."""
        self._consents.put(asked.consent, None)
        code = secrets.token_urlsafe(32)
        self._codes.put(code, _Once(Grant(asked), self._clock() + CODE_LIFETIME))
        return code

    def redeem(
        self, code: str, *, client_id: str, redirect_uri: str | None, verifier: str | None
    ) -> Grant:
        """Take a code from the client it was given to, once.

        Raises:
            OAuthRefusal: it is not that client, not the one who asked, or not for the first time.
        """
        known = self._spendable(self._codes.get(code), client_id)
        if redirect_uri != known.grant.asked.redirect_uri:
            raise _invalid("The redirect URI is not the one of the authorization request.")
        if not _proves(verifier, known.grant.asked.challenge):
            raise _invalid("The code verifier does not fit.")
        known.spent = True
        return known.grant

    def rotate(self, refresh_token: str, *, client_id: str) -> Grant:
        """Take a refresh token from the client it was given to, once.

        Raises:
            OAuthRefusal: it is not that client, or not for the first time.
        """
        known = self._spendable(self._refresh.get(refresh_token), client_id)
        known.spent = True
        return known.grant

    def granted(self, refresh_token: str) -> list[str]:
        """Return the scopes that a refresh token is for."""
        known = self._refresh.get(refresh_token)
        return known.grant.asked.scopes if known else []

    def remember(self, grant: Grant, access_token: str, scopes: list[str]) -> str:
        """Keep an access token that was made for a grant, and return a refresh token beside it."""
        caller = replace(
            grant.asked.user,
            kind=TokenKind.OAUTH,
            token=access_token,
            orgs=grant.asked.orgs,
            expires_at=written(self._clock() + self.lifetime),
            permissions=None,
            scopes=scopes,
        )
        self._access.put(access_token, _Access(grant, caller))
        refresh_token = f"hf_oauth__refresh_{secrets.token_urlsafe(32)}"
        self._refresh.put(refresh_token, _Once(grant))
        return refresh_token

    def caller(self, access_token: str) -> LocalUser | None:
        """Return whose token this is, unless it was taken back; it may have expired."""
        known = self._access.get(access_token)
        return None if known is None or known.grant.revoked else known.caller

    def revoke(self, given: str) -> bool:
        """Take back the consent that a code or a token came of; say whether there was one."""
        known = self._access.get(given) or self._refresh.get(given) or self._codes.get(given)
        if known is None:
            return False
        known.grant.revoked = True
        self._consents.take(known.grant.asked.consent)
        return True

    def expire(self, given: str) -> bool:
        """Let a code or a token expire now; say whether it was known."""
        now = self._clock()
        if access := self._access.get(given):
            ended = replace(access.caller, expires_at=written(now))
            self._access.put(given, _Access(access.grant, ended))
            return True
        if once := self._codes.get(given) or self._refresh.get(given):
            once.expires_at = now
            return True
        return False

    def _spendable(self, known: _Once | None, client_id: str) -> _Once:
        if known is None or known.grant.asked.client_id != client_id or known.grant.revoked:
            raise _invalid("It is unknown, was taken back, or belongs to another client.")
        if known.spent:
            known.grant.revoked = True
            raise _invalid("It was used before. All that came of the same consent has ended.")
        if known.expires_at is not None and known.expires_at <= self._clock():
            raise _invalid("It has expired.")
        return known


def _proves(verifier: str | None, challenge: str | None) -> bool:
    # One without the other may be an attacker's, who left the challenge out: RFC 9700, 2.1.1.
    if verifier is None or challenge is None:
        return verifier is challenge
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    return hmac.compare_digest(digest.rstrip(b"="), challenge.encode())


def _invalid(why: str) -> OAuthRefusal:
    return OAuthRefusal("invalid_grant", why)
