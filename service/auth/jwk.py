"""Which published keys are trusted, and for which algorithms? A key fits one family, or none.

An algorithm that takes a shared secret, or no key, is in no family: what is published is public.
"""

from dataclasses import dataclass
from typing import Any, Final

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import BaseModel, ValidationError

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_SHORTEST_RSA: Final = 2048

log = structlog.stdlib.get_logger()


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
