"""Sealed tokens: payloads that leave this process and come back, unreadable, unchanged and in time.

A token is the MCP SDK's own AES-256-GCM format around an expiry and a payload:

    "v1." base64url( key id | nonce | AES-GCM( expiry, 6 bytes | payload ) )

Every process of a deployment derives the same keys from the key ring, so any replica can open what
another one sealed, and nothing has to be stored. Each purpose has keys of its own: a token for one
purpose is worth nothing for another. The first key of the ring seals, and all of them open, as keys
are rotated. Only the canonical base64 of a token is accepted, so that a token has one spelling.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from mcp.server.mcpserver import AESGCMRequestStateCodec, InvalidRequestState
from pydantic import TypeAdapter, ValidationError

from schema.artifacts.files import JobFile
from schema.settings import Settings
from schema.specs.inputs.hub_uri import HubUri

CONFIRMATION_LIFETIME: Final = timedelta(minutes=10)
"""How long a person may think about a question."""
LINK_LIFETIME: Final = timedelta(minutes=15)
RESULT_FILE_NAME: Final = "result.json"
"""What a job's whole result is called, where it is linked as a file."""
_KEY_BYTES: Final = 32
_EXPIRY_BYTES: Final = 6
_CONFIRMATION_ID_BYTES: Final = 9
_MAX_LINK_TOKEN_CHARS: Final = 8192
"""The token of the longest possible file name fits in."""
ExportKind = Literal["items", "log", "archive"]
"""What of a job can be taken along as one file."""
LinkTarget = Literal["file", "result"] | ExportKind
_LINK_PAYLOAD: Final = TypeAdapter(tuple[str, UUID, LinkTarget, str])
"""Subject, job, what of it, and the name of a file."""
_UPLOAD_PAYLOAD: Final = TypeAdapter(tuple[str, UUID])
"""Subject and upload."""


def derive_keys(settings: Settings, purpose: bytes) -> list[bytes]:
    """Derive the keys of a purpose from the key ring: the first seals, and all open."""
    ring = settings.vault_keys.get_secret_value().split(",")
    return [
        HKDF(SHA256(), _KEY_BYTES, salt=None, info=purpose).derive(key.strip().encode())
        for key in ring
        if key.strip()
    ]


class SealedTokens:
    """Seals payloads of one purpose, each until a moment."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._codec = AESGCMRequestStateCodec(keys)

    def seal(self, payload: bytes, *, expires_at: float) -> str:
        """Seal a payload; no two tokens are the same.

        Args:
            payload: what `unseal` returns.
            expires_at: the last second, since the epoch, in which the token is accepted.
        """
        return self._codec.seal(int(expires_at).to_bytes(_EXPIRY_BYTES, "big") + payload)

    def unseal(self, token: str, *, now: float) -> bytes | None:
        """Return the payload of a token; None if the token is forged, changed or expired.

        Args:
            token: anything that a client may have sent.
            now: seconds since the epoch.
        """
        try:
            content = self._codec.unseal(token)
        except InvalidRequestState:
            return None
        expires_at = int.from_bytes(content[:_EXPIRY_BYTES], "big")
        return content[_EXPIRY_BYTES:] if expires_at >= now else None


class ConfirmationTokens:
    """Tokens which prove that a person was asked just this question, a few minutes ago.

    A token holds a random id and the digest of the question. It is binary, not JSON, because a
    model has to copy it: 109 characters instead of about 200.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._tokens = SealedTokens(keys)

    def issue(self, question: bytes, now: float) -> str:
        """Seal a question, for `CONFIRMATION_LIFETIME` from now.

        Args:
            question: everything that the answer is bound to.
            now: seconds since the epoch.
        """
        payload = secrets.token_bytes(_CONFIRMATION_ID_BYTES) + sha256(question).digest()
        return self._tokens.seal(payload, expires_at=now + CONFIRMATION_LIFETIME.total_seconds())

    def verify(self, token: str, question: bytes, now: float) -> str | None:
        """Return the id of a token; None if it is not a valid token for just this question.

        Spaces around the token are ignored: models add them. A token has one id in every spelling
        that is accepted, as the id stands for one launch.

        Args:
            token: what the model sent.
            question: everything that the answer is bound to, as it is now.
            now: seconds since the epoch.
        """
        payload = self._tokens.unseal(token.strip(), now=now)
        if payload is None:
            return None
        confirmation_id = payload[:_CONFIRMATION_ID_BYTES]
        digest = payload[_CONFIRMATION_ID_BYTES:]
        is_same_question = hmac.compare_digest(digest, sha256(question).digest())
        return confirmation_id.hex() if is_same_question else None


@dataclass(frozen=True, slots=True)
class DownloadGrant:
    """The right to read one file of a subject, or one result or export."""

    subject_id: str
    job_id: UUID
    target: LinkTarget
    name: str
    """Of a file; else empty."""


@dataclass(frozen=True, slots=True)
class DownloadLink:
    """Where a file can be downloaded, and until when."""

    url: str
    expires_at: datetime | None
    """None: the Hub asks for a sign-in there, and the link works for as long as the file exists."""


class DownloadLinks:
    """Writes and reads links that let whoever holds the URL download one file for a while.

    The URL is a capability. Without it nobody can make one, or see in one whose file it is.
    """

    def __init__(
        self,
        public_url: str,
        hub_url: str,
        keys: Sequence[bytes],
        *,
        lifetime: timedelta = LINK_LIFETIME,
    ) -> None:
        self._public_url = public_url
        self._hub_url = hub_url
        self._tokens = SealedTokens(keys)
        self._lifetime = lifetime

    def link_to(self, file: JobFile) -> DownloadLink | None:
        """Return a link to a file; None if there is no page for the place where it lies."""
        if file.uri is not None:
            try:
                return DownloadLink(f"{self._hub_url}{HubUri.parse(file.uri).url_path}", None)
            except ValueError:
                return None
        return self._seal_link(file.subject_id, file.job_id, "file", file.name)

    def link_to_result(self, subject_id: str, job_id: UUID) -> DownloadLink:
        """Return a link to the whole result of a job, for one that no reply has room for."""
        return self._seal_link(subject_id, job_id, "result")

    def link_to_export(self, subject_id: str, job_id: UUID, kind: ExportKind) -> DownloadLink:
        """Return a link to a file that is made of a job while it is read."""
        return self._seal_link(subject_id, job_id, kind)

    def _seal_link(
        self, subject_id: str, job_id: UUID, target: LinkTarget, name: str = ""
    ) -> DownloadLink:
        expires_at = datetime.now(UTC).replace(microsecond=0) + self._lifetime
        payload = _LINK_PAYLOAD.dump_json((subject_id, job_id, target, name))
        token = self._tokens.seal(payload, expires_at=expires_at.timestamp())
        return DownloadLink(f"{self._public_url}/files/{token}", expires_at)

    def open_token(self, token: str) -> DownloadGrant | None:
        """Return the grant in the token of a link; None if it is forged, changed or expired."""
        if len(token) > _MAX_LINK_TOKEN_CHARS:
            return None
        payload = self._tokens.unseal(token, now=datetime.now(UTC).timestamp())
        if payload is None:
            return None
        try:
            return DownloadGrant(*_LINK_PAYLOAD.validate_json(payload))
        except ValidationError:
            return None  # sealed with these keys, but as something else


@dataclass(frozen=True, slots=True)
class UploadGrant:
    """The right to send the bytes of one upload of a subject, once."""

    subject_id: str
    upload_id: UUID


class UploadLinks:
    """Writes and reads links that let whoever holds the URL send one file.

    The row of the upload decides whether the link has been used.
    """

    def __init__(self, public_url: str, keys: Sequence[bytes]) -> None:
        self._public_url = public_url
        self._tokens = SealedTokens(keys)

    def link_to(self, grant: UploadGrant, expires_at: datetime) -> str:
        """Return a link that is good until a moment."""
        payload = _UPLOAD_PAYLOAD.dump_json((grant.subject_id, grant.upload_id))
        token = self._tokens.seal(payload, expires_at=expires_at.timestamp())
        return f"{self._public_url}/uploads/{token}"

    def open_token(self, token: str) -> UploadGrant | None:
        """Return the grant in the token of a link; None if it is forged, changed or expired."""
        if len(token) > _MAX_LINK_TOKEN_CHARS:
            return None
        payload = self._tokens.unseal(token, now=datetime.now(UTC).timestamp())
        if payload is None:
            return None
        try:
            return UploadGrant(*_UPLOAD_PAYLOAD.validate_json(payload))
        except ValidationError:
            return None  # sealed with these keys, but as something else
