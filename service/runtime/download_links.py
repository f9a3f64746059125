"""How does somebody who may see a file get its bytes with nothing but a URL?

The URL is a capability: sealed in it is whose file it is and until when, under a key that every
process of this deployment derives from the ring. Who has it may read that one file for a while, and
who has not can neither make one nor see in it whose it is.
"""

import base64
import binascii
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schema.artifacts.files import JobFile
from schema.specs.inputs.hub_uri import HubUri

LINK_LIFETIME: Final = timedelta(minutes=15)
_NONCE: Final = 12
_MAX_TOKEN_CHARACTERS: Final = 8192
"""Characters of a token; the longest name there can be fits in."""


@dataclass(frozen=True, slots=True)
class DownloadGrant:
    """What a token says."""

    subject_id: str
    job_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class DownloadLink:
    """Where a file can be had, and until when."""

    url: str
    expires_at: datetime | None
    """None: it asks for a sign-in at the Hub, and so for as long as the file lies there."""


class DownloadLinks:
    """Writes links with the first of its keys, and reads them with all, as keys are rotated."""

    def __init__(self, public_url: str, hub_url: str, keys: Sequence[bytes]) -> None:
        self._public_url = public_url
        self._hub_url = hub_url
        self._ciphers = [AESGCM(key) for key in keys]

    def link_to(self, file: JobFile) -> DownloadLink | None:
        """Return a link to a file; none if there is no page for where it lies."""
        if file.uri is not None:
            try:
                return DownloadLink(f"{self._hub_url}{HubUri.parse(file.uri).url_path}", None)
            except ValueError:
                return None
        expires_at = datetime.now(UTC).replace(microsecond=0) + LINK_LIFETIME
        said = [file.subject_id, file.job_id.hex, file.name, int(expires_at.timestamp())]
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[0].encrypt(
            nonce, json.dumps(said, ensure_ascii=False).encode(), None
        )
        token = base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")
        return DownloadLink(f"{self._public_url}/files/{token}", expires_at)

    def open_token(self, token: str) -> DownloadGrant | None:
        """Return what a token says; none if it is not one of ours, or its time is over."""
        if len(token) > _MAX_TOKEN_CHARACTERS or (said := self._opened(token)) is None:
            return None
        subject_id, job_id, name, expires_at = json.loads(said)
        if expires_at < datetime.now(UTC).timestamp():
            return None
        return DownloadGrant(subject_id, UUID(job_id), name)

    def _opened(self, token: str) -> bytes | None:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], None)
            except (InvalidTag, ValueError):
                continue
        return None
