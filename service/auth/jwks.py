"""Which keys does the authorization server sign with right now?

age of the keys   0 s ──────────── 60 s ─────────────────────── 10 min ──────────
a known kid       verified at once │ fetched first; without an   │ fetched first, or
                                   │ answer, verified as before  │ nobody is let in
an unknown kid    fetched first, unless that was tried within the last 5 s
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
from pydantic import BaseModel, ValidationError

from schema.common.errors import Unavailable
from service.auth.issuer_metadata import Publisher, Unreadable

FRESH: Final = timedelta(seconds=60)
"""How long a key that was taken back is still believed, while its server answers."""
KEPT: Final = timedelta(minutes=10)
"""How long keys are believed whose server does not answer."""
PAUSE: Final = timedelta(seconds=5)
"""How long nobody asks again, whatever tokens come: anyone can make up a kid."""

log = structlog.stdlib.get_logger()


PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


_SHORTEST_RSA: Final = 2048


@dataclass(frozen=True, slots=True)
class _Family:
    members: tuple[str, ...]
    """What of a JWK is the key; the rest, a private half above all, is left where it is."""
    algorithms: frozenset[str]


_FAMILIES: Final[dict[tuple[str, str | None], _Family]] = {
    ("RSA", None): _Family(
        ("n", "e"), frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
    ),
    ("EC", "P-256"): _Family(("crv", "x", "y"), frozenset({"ES256"})),
    ("EC", "P-384"): _Family(("crv", "x", "y"), frozenset({"ES384"})),
    ("OKP", "Ed25519"): _Family(("crv", "x"), frozenset({"EdDSA"})),
}

ALGORITHMS: Final = frozenset[str]().union(*(family.algorithms for family in _FAMILIES.values()))
"""All that a token may be signed with."""


@dataclass(frozen=True, slots=True)
class Key:
    """A published key, and what it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey

    def may_verify(self, kid: str | None, algorithm: str) -> bool:
        """Say whether a token that names this key, or none, may be signed by it this way."""
        return algorithm in self.algorithms and (kid is None or kid == self.kid)


class _Document(BaseModel):
    keys: list[dict[str, Any]]


class _Jwk(BaseModel):
    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    crv: str | None = None

    def family(self) -> _Family | None:
        """Return what it belongs to, if that is meant to verify signatures."""
        meant = self.use in (None, "sig") and (self.key_ops is None or "verify" in self.key_ops)
        return _FAMILIES.get((self.kty, self.crv)) if meant else None


def read(document: bytes) -> tuple[Key, ...]:
    """Read a JWK set; a key that cannot be used does not spoil the others.

    Raises:
        ValueError: it is not a JWK set.
    """
    published = _Document.model_validate_json(document).keys
    keys = tuple(key for jwk in published if (key := _key(jwk)) is not None)
    if len(keys) < len(published):
        log.info("jwks.keys_left_out", used=len(keys), published=len(published))
    return keys


def _key(written: dict[str, Any]) -> Key | None:
    try:
        jwk = _Jwk.model_validate(written)
    except ValidationError:
        return None
    if (family := jwk.family()) is None:
        return None
    algorithms = family.algorithms if jwk.alg is None else family.algorithms & {jwk.alg}
    if not algorithms:
        return None
    public = _public({name: written.get(name) for name in ("kty", *family.members)}, algorithms)
    return None if public is None else Key(jwk.kid, algorithms, public)


def _public(members: dict[str, Any], algorithms: frozenset[str]) -> PublicKey | None:
    try:
        key = jwt.PyJWK(members, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, AttributeError):
        # AttributeError: PyJWT 2.15 takes a member for a string without looking.
        return None
    if isinstance(key, RSAPublicKey):
        return key if key.key_size >= _SHORTEST_RSA else None
    return key if isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey) else None


class Jwks:
    """The keys of one authorization server, as of lately."""

    def __init__(
        self, publisher: Publisher, issuer: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher = publisher
        self._issuer = issuer
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._published = self._asked = -math.inf
        self._answered = False
        self._asking = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """Find the keys that may have signed so; none if the server has no such key.

        Raises:
            Unavailable: the server did not say.
        """
        if self._age() < FRESH.total_seconds() and (known := self._fitting(kid, algorithm)):
            return known
        await self._refresh()
        known = self._fitting(kid, algorithm) if self._age() < KEPT.total_seconds() else []
        if not known and not self._answered:
            raise Unavailable(f"The authorization server {self._issuer}", retry_after=PAUSE)
        return known

    def _fitting(self, kid: str | None, algorithm: str) -> list[Key]:
        return [key for key in self._keys if key.may_verify(kid, algorithm)]

    def _age(self) -> float:
        return self._clock() - self._published

    async def _refresh(self) -> None:
        """Ask, unless somebody has just done so."""
        async with self._asking:
            if self._clock() - self._asked < PAUSE.total_seconds():
                return
            started = self._clock()
            # Whoever goes away meanwhile has still asked, and the others need the answer.
            with anyio.CancelScope(shield=True):
                try:
                    self._keys = read(await self._publisher.fetch())
                except (Unreadable, ValueError) as error:
                    self._answered = False
                    log.warning("jwks.unread", issuer=self._issuer, error=_cause(error))
                else:
                    self._answered, self._published = True, started
                finally:
                    self._asked = self._clock()


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, Unreadable) else "it is not a JWK set"


log = structlog.stdlib.get_logger()
