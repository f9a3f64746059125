"""Verifier of JWT access tokens that an external authorization server signed for this service.

size → form → header → claims → issuer → key → signature → time → audience
                                └ refuses a foreign token before a key is fetched

PyJWT checks the signature, the issuer, the times and the audience. Ours is what it does not check:
which headers are acceptable, the strict form of the claims (`claims`), which published keys may be
used and for how long (`jwks`), and the sentences that say what is wrong and what to do.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import jwt
from jwt.types import Options
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.accounts.vault import Secret
from schema.common.errors import Unauthenticated
from schema.common.process.tls import shared_ssl_context
from schema.hub.oauth.issuer_metadata import IssuerMetadataClient
from service.auth.claims import Claims, display_text
from service.auth.jwks import ALGORITHMS, JwksCache, VerificationKey

_MAX_TOKEN_CHARS: Final = 8 * 1024
_MAX_KID_CHARS: Final = 256
_ACCESS_TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_SIGN_IN_AGAIN: Final = "Sign in again to get another one."


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """A person or program as the authorization server names it: by `issuer` and `subject`."""

    issuer: str
    subject: str
    audience: str
    """The one of ours that the token names."""
    scopes: frozenset[str]
    expires_at: datetime
    valid_until: datetime
    """`expires_at` and the leeway: a cache may keep the identity until then."""
    client_id: str | None
    email: str | None
    """For display only: the server need not have verified it."""
    name: str | None


class _Header(BaseModel):
    model_config = ConfigDict(strict=True)

    alg: str
    kid: str | None = Field(default=None, max_length=_MAX_KID_CHARS)
    typ: str = "JWT"
    # A token that brings the key of its own signature proves nothing.
    jwk: Any = None
    jku: Any = None
    x5c: Any = None
    x5u: Any = None
    # It names extensions that must be understood, and none is implemented here.
    crit: Any = None

    def require_acceptable(self) -> None:
        """Refuse a header by which the token would decide how it is checked.

        Raises:
            Unauthenticated: the header is not acceptable.
        """
        if self.alg not in ALGORITHMS:
            raise Unauthenticated(
                f"This token is not signed in a way Holdfast accepts; its alg must be one of "
                f"{', '.join(sorted(ALGORITHMS))}."
            )
        if unsupported := sorted(self.model_fields_set - {"alg", "kid", "typ"}):
            raise Unauthenticated(
                f"This token's header has {', '.join(unsupported)}, which Holdfast does not follow."
            )
        if self.typ.lower() not in _ACCESS_TOKEN_TYPES:
            raise Unauthenticated("This is not an access token: its typ must be JWT or at+jwt.")


class JwtVerifier:
    """Verifies the access tokens of one authorization server."""

    def __init__(
        self, keys: JwksCache, *, issuer: str, audiences: tuple[str, ...], leeway: timedelta
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audiences = audiences
        self._leeway = leeway

    async def verify(self, token: Secret) -> ExternalIdentity:
        """Verify a token, and return the identity in it.

        Raises:
            Unauthenticated: the token is not valid here; `problem` says why.
            Unavailable: the keys of the server cannot be fetched.
        """
        raw = token.reveal()
        if len(raw) > _MAX_TOKEN_CHARS or not raw.isascii():
            raise Unauthenticated(
                f"A token has at most {_MAX_TOKEN_CHARS} ASCII characters. {_SIGN_IN_AGAIN}"
            )
        header, claims = _parse_unverified(raw)
        claims.require_issuer(self._issuer)  # before a key is fetched
        claims.require_bearer()
        keys = await self._keys.find_keys(header.kid, header.alg)
        if not keys:
            raise Unauthenticated(
                f"{self._issuer} publishes no {header.alg} key that this token could be signed "
                f"with; it may have been replaced. {_SIGN_IN_AGAIN}"
            )
        self._require_verified(raw, header, claims, keys)
        return ExternalIdentity(
            issuer=claims.iss,
            subject=claims.sub,
            audience=next(each for each in self._audiences if each in claims.audiences),
            scopes=claims.scopes,
            expires_at=claims.expires_at,
            valid_until=claims.expires_at + self._leeway,
            client_id=claims.client_id or claims.azp,
            email=display_text(claims.email),
            name=display_text(claims.name),
        )

    def _require_verified(
        self, raw: str, header: _Header, claims: Claims, keys: list[VerificationKey]
    ) -> None:
        """Refuse a token that no key verifies, or that is not valid here and now.

        Raises:
            Unauthenticated: it is refused.
        """
        options: Options = {
            "require": ["exp", "iss", "sub"],
            "verify_jti": False,  # nothing here reads it
            # PyJWT refuses a claim that is null; `Claims` reads null as absent.
            "verify_iat": claims.iat is not None,
            "verify_nbf": claims.nbf is not None,
        }
        for key in keys:
            try:
                jwt.decode(
                    raw,
                    key.public_key,
                    # Safe, though the token says it: it is one of ALGORITHMS, and the keys are of
                    # the family that belongs to it.
                    algorithms=[header.alg],
                    audience=self._audiences,
                    issuer=self._issuer,
                    leeway=self._leeway,
                    options=options,
                )
            except jwt.ExpiredSignatureError:
                raise claims.expired_error() from None
            except jwt.ImmatureSignatureError:
                raise claims.not_yet_valid_error(datetime.now(UTC), self._leeway) from None
            except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError):
                raise claims.audience_error(self._audiences[0]) from None
            except jwt.PyJWTError:
                continue
            return
        raise Unauthenticated(f"The signature of this token is wrong. {_SIGN_IN_AGAIN}")


def _parse_unverified(raw: str) -> tuple[_Header, Claims]:
    """Parse a token; nothing of it is believed before the signature has been verified.

    Raises:
        Unauthenticated: it is no signed JWT, or one with a header or claims that are refused.
    """
    try:
        token = jwt.decode_complete(raw, options={"verify_signature": False})
        header = _Header.model_validate(token["header"])
    except (jwt.PyJWTError, ValidationError):
        raise Unauthenticated(f"This is not a signed JWT. {_SIGN_IN_AGAIN}") from None
    header.require_acceptable()
    return header, Claims.parse(token["payload"])


@asynccontextmanager
async def open_jwt_verifier(
    *, issuer: str, audiences: tuple[str, ...], jwks_url: str | None = None, leeway: timedelta
) -> AsyncGenerator[JwtVerifier]:
    """Open a verifier; the server is asked for its keys when the first token comes."""
    async with httpx2.AsyncClient(verify=shared_ssl_context()) as session:
        keys = JwksCache(IssuerMetadataClient(session, issuer, jwks_url), issuer)
        yield JwtVerifier(keys, issuer=issuer, audiences=audiences, leeway=leeway)
