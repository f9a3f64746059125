"""The keys that sign tokens: two, made anew at each start, when all tokens are forgotten anyway.

As on the Hub, access tokens are EdDSA JWTs and id tokens RS256 JWTs. The signature of an access
token does not grant access: services call `whoami-v2`, which knows the revoked tokens.
"""

from functools import cached_property
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

ID_TOKEN_ALGORITHM: Final = "RS256"  # noqa: S105  # not a secret
_ACCESS_TOKEN_KEY_ID: Final = "local-access"  # noqa: S105  # not a secret
_ID_TOKEN_KEY_ID: Final = "local-id"  # noqa: S105  # not a secret
_RSA_KEY_BITS: Final = 2048


class SigningKeys:
    """The Hub's signing keys."""

    def __init__(self) -> None:
        self._ed25519 = Ed25519PrivateKey.generate()

    @cached_property
    def _rsa(self) -> RSAPrivateKey:
        # On first use: generation takes long, and most tests need no id token.
        return generate_private_key(public_exponent=65537, key_size=_RSA_KEY_BITS)

    def sign_access_token(self, claims: dict[str, Any]) -> str:
        """Return an access token with these claims."""
        encoded = jwt.encode(
            claims, self._ed25519, algorithm="EdDSA", headers={"kid": _ACCESS_TOKEN_KEY_ID}
        )
        return f"hf_oauth_{encoded}"

    def sign_id_token(self, claims: dict[str, Any]) -> str:
        """Return an id token with these claims."""
        return jwt.encode(
            claims, self._rsa, algorithm=ID_TOKEN_ALGORITHM, headers={"kid": _ID_TOKEN_KEY_ID}
        )

    def build_jwk_set(self) -> dict[str, Any]:
        """Build the JWK set of the public keys."""
        ed25519 = OKPAlgorithm.to_jwk(self._ed25519.public_key(), as_dict=True)
        rsa = RSAAlgorithm.to_jwk(self._rsa.public_key(), as_dict=True)
        # `key_ops` must not be used together with `use`: RFC 7517, section 4.3.
        rsa.pop("key_ops", None)
        return {
            "keys": [
                ed25519 | {"kid": _ACCESS_TOKEN_KEY_ID, "use": "sig", "alg": "EdDSA"},
                rsa | {"kid": _ID_TOKEN_KEY_ID, "use": "sig", "alg": ID_TOKEN_ALGORITHM},
            ]
        }
