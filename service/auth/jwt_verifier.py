"""Whom does an authorization server vouch for? What it signed for us says so, and nothing else.

size → form → header → issuer → key → signature → audience → time
                       └ refuses what is not even said to be ours before a key is looked for
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
from jwt import PyJWS, PyJWTError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.accounts.vault import Secret
from schema.common.errors import Unauthenticated
from service.auth.claims import Claims, display_text
from service.auth.issuer_metadata import IssuerMetadataClient
from service.auth.jwks import ALGORITHMS, JwksCache

_MAX_TOKEN_CHARACTERS: Final = 8 * 1024
_MAX_KID_CHARACTERS: Final = 256
_ACCESS_TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_SIGN_IN_AGAIN: Final = "Sign in again to get another one."


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """Somebody the authorization server vouches for; `issuer` and `subject` together are who."""

    issuer: str
    subject: str
    scopes: frozenset[str]
    expires_at: datetime
    valid_until: datetime
    """Later by the leeway: the end of what may be cached."""
    client_id: str | None
    email: str | None
    """To be shown only: the server need not have verified it."""
    name: str | None


class _Header(BaseModel):
    model_config = ConfigDict(strict=True)

    alg: str
    kid: str | None = Field(default=None, max_length=_MAX_KID_CHARACTERS)
    typ: str = "JWT"
    # A token that brings the key to its own signature proves nothing.
    jwk: Any = None
    jku: Any = None
    x5c: Any = None
    x5u: Any = None
    # What it says must be understood, we do not.
    crit: Any = None

    def require_acceptable(self) -> None:
        """Refuse what would have us trust the token about how to check it."""
        if self.alg not in ALGORITHMS:
            raise Unauthenticated(
                f"This token is not signed in a way Holdfast accepts; its alg must be one of "
                f"{', '.join(sorted(ALGORITHMS))}."
            )
        if refused := sorted(self.model_fields_set - {"alg", "kid", "typ"}):
            raise Unauthenticated(
                f"This token's header has {', '.join(refused)}, which Holdfast does not follow."
            )
        if self.typ.lower() not in _ACCESS_TOKEN_TYPES:
            raise Unauthenticated("This is not an access token: its typ must be JWT or at+jwt.")


class JwtVerifier:
    """The authorization server, as the one whose signature counts."""

    def __init__(self, keys: JwksCache, *, issuer: str, audience: str, leeway: timedelta) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._jws = PyJWS(algorithms=sorted(ALGORITHMS))

    async def verify(self, token: Secret) -> ExternalIdentity:
        """Return whom this token speaks for.

        Raises:
            Unauthenticated: nobody; its `problem` says why.
            Unavailable: the server's keys cannot be had.
        """
        raw = token.reveal()
        if len(raw) > _MAX_TOKEN_CHARACTERS or not raw.isascii():
            raise Unauthenticated(
                f"A token has at most {_MAX_TOKEN_CHARACTERS} ASCII characters. {_SIGN_IN_AGAIN}"
            )
        header, payload = self._parse(raw)
        claims = Claims.parse(payload)
        claims.require_issuer(self._issuer)
        await self._require_signature(raw, header)
        claims.require_audience(self._audience)
        claims.require_valid_at(datetime.now(UTC), self._leeway)
        return ExternalIdentity(
            issuer=claims.iss,
            subject=claims.sub,
            scopes=claims.scopes,
            expires_at=claims.expires_at,
            valid_until=claims.expires_at + self._leeway,
            client_id=claims.client_id or claims.azp,
            email=display_text(claims.email),
            name=display_text(claims.name),
        )

    def _parse(self, raw: str) -> tuple[_Header, bytes]:
        try:
            parts = self._jws.decode_complete(raw, options={"verify_signature": False})
            header = _Header.model_validate(parts["header"])
        except (PyJWTError, ValidationError):
            raise Unauthenticated(f"This is not a signed JWT. {_SIGN_IN_AGAIN}") from None
        header.require_acceptable()
        return header, parts["payload"]

    async def _require_signature(self, raw: str, header: _Header) -> None:
        keys = await self._keys.find_keys(header.kid, header.alg)
        if not keys:
            raise Unauthenticated(
                f"{self._issuer} publishes no {header.alg} key that this token could be signed "
                f"with; it may have been replaced. {_SIGN_IN_AGAIN}"
            )
        for key in keys:
            try:
                self._jws.decode(raw, key.public_key, algorithms=[header.alg])
            except PyJWTError:
                continue
            return
        raise Unauthenticated(f"The signature of this token is wrong. {_SIGN_IN_AGAIN}")


@asynccontextmanager
async def open_jwt_verifier(
    *, issuer: str, audience: str, jwks_url: str | None = None, leeway: timedelta
) -> AsyncGenerator[JwtVerifier]:
    """Open the way to an authorization server; it is asked when the first token comes."""
    async with httpx2.AsyncClient() as session:
        keys = JwksCache(IssuerMetadataClient(session, issuer, jwks_url), issuer)
        yield JwtVerifier(keys, issuer=issuer, audience=audience, leeway=leeway)
