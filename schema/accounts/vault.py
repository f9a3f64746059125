"""A vault for secrets: AES-256-GCM with a data key for each secret, under a ring of master keys.

    sealed = version · key id · nonce · master(data key) · nonce · data key(secret)

    digest = mark of the key · HMAC-SHA256 under a key derived from the master key

The first key of the ring seals; every key opens. So a new key is added in front, and an old one
stays until nothing is sealed under it. The owner of a secret is bound into the ciphertext: moved to
another row, it does not open.

A digest tells whether a secret is the same as one before, without keeping it. A digest whose key
has left the ring says nothing, so it counts as the same: a new ring must not refuse a request that
is repeated. The mark is of the key itself, not its id, which another key may have had.
"""

import base64
import binascii
import hmac
import json
import os
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schema.common.errors import HoldfastError

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_KEY_BYTES: Final = _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
_MAX_KEY_ID_BYTES: Final = 255
_MARK_BYTES: Final = 8
_DIGEST_PURPOSE: Final = b"holdfast digest of a secret"
_FORMAT_VERSION: Final = b"\x01"


class Secret:
    """A string that does not print itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the string."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not to be pickled")


class Unsealable(HoldfastError):
    """A secret cannot be opened: its key is not in the ring, its owner differs, or it changed."""


class Vault:
    """Seals and opens secrets under one key ring."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        digest_keys = {
            name: hmac.digest(key, _DIGEST_PURPOSE, "sha256") for name, key in keys.items()
        }
        self.marks_by_id: Final = {name: _mark_of_key(key) for name, key in digest_keys.items()}
        """The mark of each key; the first is of the one that seals."""
        self._digest_keys = {_mark_of_key(key): key for key in digest_keys.values()}
        self._sealing_key_id = next(iter(keys))
        self._current_mark = self.marks_by_id[self._sealing_key_id]

    @classmethod
    def from_key_ring(cls, key_ring: str) -> Self:
        """Read a ring written as `ID:BASE64,ID:BASE64`; the first key seals.

        Raises:
            ValueError: the form is another, or a key is not 32 bytes long.
        """
        keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in key_ring.split(","))):
            name, colon, encoded = entry.partition(":")
            if not colon or not name.isalnum() or len(name) > _MAX_KEY_ID_BYTES:
                message = 'each key is written ID:BASE64, for example "1:" and 32 random bytes'
                raise ValueError(message)
            keys[name] = _decode_key(name, encoded)
        if not keys:
            message = "there is no key in it"
            raise ValueError(message)
        return cls(keys)

    @property
    def key_marks(self) -> list[str]:
        """The marks of the keys, whatever the ids are; the first is of the one that seals."""
        return list(self._digest_keys)

    @property
    def sealing_key_id(self) -> str:
        """The id of the key that seals."""
        return self._sealing_key_id

    def seal(self, secret: Secret, *, owner: str) -> bytes:
        """Seal a secret for its owner."""
        data_key = AESGCM.generate_key(bit_length=256)
        name = self._sealing_key_id.encode()
        head = _FORMAT_VERSION + bytes([len(name)]) + name
        bound = head + owner.encode()
        return (
            head
            + _encrypt(self._keys[self._sealing_key_id], data_key, bound)
            + _encrypt(AESGCM(data_key), secret.reveal().encode(), bound)
        )

    def find_backup_key(self, mark: str, context: bytes) -> bytes | None:
        """Derive the key of a backup from the key with a mark; None if it is not in the ring.

        Args:
            context: what the backup is, so that no two of them have the same key.
        """
        key = self._digest_keys.get(mark)
        if key is None:
            return None
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=context).derive(key)

    def digest(self, secret: Secret, *, owner: str) -> str:
        """Return a digest of a secret, which differs from one owner to another.

        It may be stored: nobody without the keys can try guesses against it.
        """
        return self._digest_under(self._current_mark, secret, owner)

    def may_have_digest(self, digest: str, secret: Secret, *, owner: str) -> bool:
        """Say whether this may be the digest of a secret: it is, or its key has left the ring."""
        mark = digest.partition(":")[0]
        return mark not in self._digest_keys or hmac.compare_digest(
            digest, self._digest_under(mark, secret, owner)
        )

    def _digest_under(self, mark: str, secret: Secret, owner: str) -> str:
        message = json.dumps([owner, secret.reveal()]).encode()
        return f"{mark}:{hmac.digest(self._digest_keys[mark], message, 'sha256').hex()}"

    def is_current(self, sealed: bytes) -> bool:
        """Return whether this was sealed under the key that seals now."""
        return _read_header(sealed)[2:] == self._sealing_key_id.encode()

    def open(self, sealed: bytes, *, owner: str) -> Secret:
        """Open what was sealed for this owner.

        Raises:
            Unsealable: the owner is another, the key is unknown, or we did not seal it.
        """
        head = _read_header(sealed)
        rest = sealed[len(head) :]
        master = self._keys.get(head[2:].decode(errors="replace"))
        if master is None or len(rest) < _WRAPPED_KEY_BYTES:
            raise Unsealable("It was not sealed under a key of this ring (HOLDFAST_VAULT_KEYS).")
        bound = head + owner.encode()
        try:
            data_key = _decrypt(master, rest[:_WRAPPED_KEY_BYTES], bound)
            text = _decrypt(AESGCM(data_key), rest[_WRAPPED_KEY_BYTES:], bound)
        except InvalidTag:
            raise Unsealable("It was sealed for another owner, or has been changed.") from None
        return Secret(text.decode())


def _mark_of_key(digest_key: bytes) -> str:
    return hmac.digest(digest_key, b"mark", "sha256")[:_MARK_BYTES].hex()


def _read_header(sealed: bytes) -> bytes:
    """Return the bytes before the ciphertext; none if we did not seal this."""
    return sealed[: 2 + sealed[1]] if sealed[:1] == _FORMAT_VERSION and len(sealed) > 1 else b""


def _encrypt(key: AESGCM, plain: bytes, associated_data: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + key.encrypt(nonce, plain, associated_data)


def _decrypt(key: AESGCM, sealed: bytes, associated_data: bytes) -> bytes:
    return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated_data)


def _decode_key(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        message = f"key {key_id} is not {_KEY_BYTES} bytes in base 64"
        raise ValueError(message)
    return key
