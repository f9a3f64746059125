"""How does a process know what another one has told somebody, without either keeping it?

A seal says: this was told to this person, minutes ago. It is a keyed digest of what was told, so
every replica can check it, none has to remember it, and nothing can be read out of it.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

CONFIRMATION_LIFETIME: Final = timedelta(minutes=10)
"""How long somebody may think about what they were told."""
_MOMENT: Final = 6
"""Bytes of a moment, in seconds."""
_NONCE: Final = 9
_HEAD: Final = _MOMENT + _NONCE
_DIGEST: Final = 32


class ConfirmationTokens:
    """Writes seals with the first of its keys, and checks them with all, as keys are rotated."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def issue(self, question: bytes, now: float) -> str:
        """Seal what was told; no two seals are the same."""
        ends = int(now + CONFIRMATION_LIFETIME.total_seconds()).to_bytes(_MOMENT, "big")
        head = ends + secrets.token_bytes(_NONCE)
        return base64.urlsafe_b64encode(head + _digest(self._keys[0], head, question)).decode()

    def verify(self, token: str, question: bytes, now: float) -> str | None:
        """Return what to call this seal, if just that was told, and not too long ago.

        However it is written, a seal has one name.
        """
        try:
            raw = base64.b64decode(token.strip(), altchars=b"-_", validate=True)
        except ValueError:
            return None
        head, digest = raw[:_HEAD], raw[_HEAD:]
        if len(digest) != _DIGEST or int.from_bytes(head[:_MOMENT], "big") < now:
            return None
        held = any(hmac.compare_digest(digest, _digest(key, head, question)) for key in self._keys)
        return head.hex() if held else None


def _digest(key: bytes, head: bytes, told: bytes) -> bytes:
    return hmac.digest(key, head + told, "sha256")
