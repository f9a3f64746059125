"""Cache of the key set (JWKS) of an authorization server, with rules for stale keys.

age of the keys   0 s ──────────── 60 s ─────────────────────── 10 min ──────────
a known kid       verified at once │ fetched first; without an   │ fetched first, or
                                   │ answer, verified as before  │ nobody is let in
an unknown kid    fetched first, unless that was tried within the last 5 s

Each key is read by `jwt.PyJWK`. `jwt.PyJWKSet` (PyJWT 2.15) is not enough: one odd key spoils its
whole set, an empty set looks like an outage although it takes all keys back, symmetric keys stay in
it, and a key without `alg` is bound to RS256 only.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import anyio
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import OKPAlgorithm
from pydantic import BaseModel, ValidationError

from schema.common.errors import Unavailable
from schema.hub.oauth.issuer_metadata import IssuerMetadataClient, IssuerMetadataError

REFRESH_AFTER: Final = timedelta(seconds=60)
"""How long a revoked key is still trusted, while the server answers."""
USABLE_WITHOUT_ANSWER: Final = timedelta(minutes=10)
"""How long keys are trusted while the server does not answer."""
RETRY_AFTER: Final = timedelta(seconds=5)
"""How long the server is not asked again, whatever tokens come: anyone can invent a kid."""

_MIN_RSA_BITS: Final = 2048

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class _KeyFamily:
    members: tuple[str, ...]
    """The members that are the public key; all others, such as a private half, are not read."""
    algorithms: frozenset[str]


_ED25519: Final = "Ed25519"
"""What RFC 9864 calls EdDSA with this curve; PyJWT 2.15 knows only the old name."""
jwt.register_algorithm(_ED25519, OKPAlgorithm())

_KEY_FAMILIES: Final[dict[tuple[str, str | None], _KeyFamily]] = {
    ("RSA", None): _KeyFamily(
        ("n", "e"), frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
    ),
    ("EC", "P-256"): _KeyFamily(("crv", "x", "y"), frozenset({"ES256"})),
    ("EC", "P-384"): _KeyFamily(("crv", "x", "y"), frozenset({"ES384"})),
    ("EC", "P-521"): _KeyFamily(("crv", "x", "y"), frozenset({"ES512"})),
    ("OKP", "Ed25519"): _KeyFamily(("crv", "x"), frozenset({"EdDSA", _ED25519})),
}

ALGORITHMS: Final = frozenset[str]().union(
    *(family.algorithms for family in _KEY_FAMILIES.values())
)
"""Every algorithm that a token may be signed with."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A published key, and the algorithms it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    public_key: PublicKey

    def may_verify(self, kid: str | None, algorithm: str) -> bool:
        """Whether this key may verify a token with this `kid` (None: no kid) and algorithm."""
        return algorithm in self.algorithms and (kid is None or kid == self.kid)


class _KeySetDocument(BaseModel):
    keys: list[dict[str, Any]]


class _Jwk(BaseModel):
    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    crv: str | None = None

    def family(self) -> _KeyFamily | None:
        """Return the family of the key; None if it is not for verifying signatures."""
        verifies = self.use in (None, "sig") and (self.key_ops is None or "verify" in self.key_ops)
        return _KEY_FAMILIES.get((self.kty, self.crv)) if verifies else None


def parse_key_set(document: bytes) -> tuple[VerificationKey, ...]:
    """Parse a JWK set; a key that cannot be used is left out.

    Raises:
        ValueError: it is not a JWK set.
    """
    published = _KeySetDocument.model_validate_json(document).keys
    keys = tuple(key for jwk in published if (key := _parse_key(jwk)) is not None)
    if len(keys) < len(published):
        log.info("jwks.keys_left_out", used=len(keys), published=len(published))
    return keys


def _parse_key(jwk_members: dict[str, Any]) -> VerificationKey | None:
    try:
        jwk = _Jwk.model_validate(jwk_members)
    except ValidationError:
        return None
    if (family := jwk.family()) is None:
        return None
    algorithms = family.algorithms if jwk.alg is None else family.algorithms & {jwk.alg}
    if not algorithms:
        return None
    public = _parse_public_key({name: jwk_members.get(name) for name in ("kty", *family.members)})
    return None if public is None else VerificationKey(jwk.kid, algorithms, public)


def _parse_public_key(members: dict[str, Any]) -> PublicKey | None:
    try:
        key = jwt.PyJWK(members).key
    except jwt.PyJWTError:
        return None
    if isinstance(key, RSAPublicKey):
        return key if key.key_size >= _MIN_RSA_BITS else None
    return key if isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey) else None


class JwksCache:
    """The keys of one authorization server, fetched when they are needed."""

    def __init__(
        self,
        metadata_client: IssuerMetadataClient,
        issuer: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metadata_client = metadata_client
        self._issuer = issuer
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at = self._tried_at = -math.inf
        self._last_fetch_succeeded = False
        self._refresh_lock = asyncio.Lock()

    async def find_keys(self, kid: str | None, algorithm: str) -> list[VerificationKey]:
        """Return the keys that may verify a token; an empty list if the server has no such key.

        Raises:
            Unavailable: the server does not answer.
        """
        if self._age() < REFRESH_AFTER.total_seconds() and (
            keys := self._matching_keys(kid, algorithm)
        ):
            return keys
        await self._refresh()
        keys = (
            self._matching_keys(kid, algorithm)
            if self._age() < USABLE_WITHOUT_ANSWER.total_seconds()
            else []
        )
        if not keys and not self._last_fetch_succeeded:
            raise Unavailable(f"The authorization server {self._issuer}", retry_after=RETRY_AFTER)
        return keys

    def _matching_keys(self, kid: str | None, algorithm: str) -> list[VerificationKey]:
        return [key for key in self._keys if key.may_verify(kid, algorithm)]

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Fetch the keys, unless that was tried a moment ago."""
        async with self._refresh_lock:
            if self._clock() - self._tried_at < RETRY_AFTER.total_seconds():
                return
            started = self._clock()
            # Shielded: if the caller goes away, the others still need the answer.
            with anyio.CancelScope(shield=True):
                try:
                    self._keys = parse_key_set(await self._metadata_client.fetch_key_set())
                except (IssuerMetadataError, ValueError) as error:
                    self._last_fetch_succeeded = False
                    log.warning("jwks.unread", issuer=self._issuer, error=_describe_cause(error))
                else:
                    self._last_fetch_succeeded, self._fetched_at = True, started
                finally:
                    self._tried_at = self._clock()


def _describe_cause(error: Exception) -> str:
    return str(error) if isinstance(error, IssuerMetadataError) else "it is not a JWK set"
