"""With which keys is sealed what leaves this process, if not in the vault? One set a purpose.

They are derived from the ring, so every process of a deployment has the same, and what is sealed
for one purpose is worth nothing for another.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schema.settings import Settings


def derive_keys(settings: Settings, purpose: bytes) -> list[bytes]:
    """Derive the keys of a purpose: the first seals, and all open."""
    ring = settings.vault_keys.get_secret_value().split(",")
    return [
        HKDF(SHA256(), 32, salt=None, info=purpose).derive(key.strip().encode())
        for key in ring
        if key.strip()
    ]
