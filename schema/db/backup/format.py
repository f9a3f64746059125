"""The file of a backup: a header that can be read, then encrypted chunks, then a mark of its end.

    file   = magic · length · header (JSON) · chunk · … · last chunk
    chunk  = AES-256-GCM of 64 KiB, with its number and whether it is the last as the nonce
    chunks = frames, compressed: a table begins, rows of it, it ends, the backup ends

The key is derived from a key of the vault, a salt of this file, and its header. So no byte can be
changed, and no chunk moved, repeated or left out, nor the file cut, without the reader noticing
(the STREAM construction, as in `age`). Only a few chunks are in memory at a time.
"""

import base64
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Generator
from datetime import datetime
from enum import IntEnum
from typing import Annotated, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schema.common.errors import HoldfastError

FORMAT: Final = 1
"""The version of the form of the file; a reader refuses one that it does not know."""

KeySource = Callable[[str, bytes], bytes | None]
"""Called with the mark of a key and a context; the key of a backup, None if there is no such."""

_MAGIC: Final = b"holdfast backup\n"
_LENGTH: Final = struct.Struct(">I")
_FRAME: Final = struct.Struct(">BI")
_NONCE: Final = struct.Struct(">3xQB")
_MAX_HEADER_BYTES: Final = 4096
_CHUNK_BYTES: Final = 64 * 1024
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 32
_MAX_FRAME_BYTES: Final = 1 << 30
"""More than the longest row that Postgres sends."""
_INFLATED_BYTES: Final = 1 << 20


class BackupRefused(HoldfastError):
    """A backup cannot be made, or not be restored; nothing was changed."""


class FrameKind(IntEnum):
    """What a frame says."""

    TABLE = 1
    """Rows of this table follow: its name and columns as JSON."""
    ROWS = 2
    """Some of what COPY sent, as text."""
    TABLE_END = 3
    """The number of rows, as JSON."""
    END = 4
    """What is left of the database, as JSON."""


class BackupHeader(BaseModel):
    """What can be read of a backup without its key."""

    model_config = ConfigDict(frozen=True)

    format: int
    revision: str
    """The revision of the database."""
    version: str
    """The release of the program that has written it."""
    postgres: str
    """The version of the server that it was read from."""
    taken_at: datetime
    """The moment that all rows are from, by the clock of that server."""
    key_mark: str
    """The mark of the key of the vault that it is encrypted with."""
    salt: Annotated[str, Field(min_length=1)]


def make_salt() -> str:
    """Return a salt: no two files have the same."""
    return base64.b64encode(os.urandom(_SALT_BYTES)).decode()


class BackupWriter:
    """Writes frames to a file; `close` writes its end."""

    def __init__(self, sink: BinaryIO, header: BackupHeader, find_key: KeySource) -> None:
        text = header.model_dump_json().encode()
        key = find_key(header.key_mark, _key_context(text))
        assert key is not None  # noqa: S101  # the mark is of one of our own keys
        self._cipher = AESGCM(key)
        self._sink = sink
        self._compressor = zlib.compressobj(level=1)
        self._buffer = bytearray()
        self._chunks = 0
        sink.write(_MAGIC + _LENGTH.pack(len(text)) + text)

    def write(self, kind: FrameKind, payload: bytes) -> None:
        """Write one frame."""
        self._buffer += self._compressor.compress(_FRAME.pack(kind, len(payload)) + payload)
        while len(self._buffer) > _CHUNK_BYTES:  # the last chunk is never empty
            self._write_chunk(bytes(self._buffer[:_CHUNK_BYTES]), is_last=False)
            del self._buffer[:_CHUNK_BYTES]

    def close(self) -> None:
        """Write what is left, and the end; without it the file is refused."""
        self._buffer += self._compressor.flush()
        while len(self._buffer) > _CHUNK_BYTES:
            self._write_chunk(bytes(self._buffer[:_CHUNK_BYTES]), is_last=False)
            del self._buffer[:_CHUNK_BYTES]
        self._write_chunk(bytes(self._buffer), is_last=True)

    def _write_chunk(self, plain: bytes, *, is_last: bool) -> None:
        self._sink.write(self._cipher.encrypt(_NONCE.pack(self._chunks, is_last), plain, None))
        self._chunks += 1


class BackupReader:
    """Reads a backup; its header at once, its frames when they are asked for."""

    def __init__(self, source: BinaryIO, find_key: KeySource) -> None:
        """Read the header.

        Raises:
            BackupRefused: this is no backup, of a newer form, or not encrypted with a key of ours.
        """
        self._source = source
        text = self._read_header()
        try:
            self.header = BackupHeader.model_validate_json(text)
        except ValidationError:
            raise _damaged("its header cannot be read") from None
        if self.header.format != FORMAT:
            raise BackupRefused(
                f"The backup was written by a newer release ({self.header.version}), so nothing "
                f"was changed. Restore it with that release."
            )
        key = find_key(self.header.key_mark, _key_context(text))
        if key is None:
            raise BackupRefused(
                f"The backup is encrypted with a key that is not in HOLDFAST_VAULT_KEYS, so "
                f"nothing was changed. Put the keys of {self.header.taken_at:%Y-%m-%d} behind the "
                f"first one, and try again."
            )
        self._cipher = AESGCM(key)

    def _read_header(self) -> bytes:
        if self._source.read(len(_MAGIC)) != _MAGIC:
            raise BackupRefused("This is no backup of Holdfast, so nothing was changed.")
        size = self._source.read(_LENGTH.size)
        length = _LENGTH.unpack(size)[0] if len(size) == _LENGTH.size else _MAX_HEADER_BYTES + 1
        text = self._source.read(length) if length <= _MAX_HEADER_BYTES else b""
        if not text or len(text) != length:
            raise _damaged("its header is cut off")
        return text

    def verify(self) -> None:
        """Read everything to the end, and keep nothing.

        Raises:
            BackupRefused: the file was changed or cut.
        """
        for _ in self._read_chunks():
            pass

    def read_frames(self) -> Generator[tuple[FrameKind, bytes]]:
        """Yield the frames; each was written like this, and the last one only if nothing is cut.

        Raises:
            BackupRefused: the file was changed or cut.
        """
        buffer = bytearray()
        for plain in self._inflate():
            buffer += plain
            while len(buffer) >= _FRAME.size:
                kind, length = _FRAME.unpack_from(buffer)
                if length > _MAX_FRAME_BYTES:
                    raise _damaged("a part of it is too long")
                if len(buffer) < _FRAME.size + length:
                    break
                yield FrameKind(kind), bytes(buffer[_FRAME.size : _FRAME.size + length])
                del buffer[: _FRAME.size + length]
        if buffer:
            raise _damaged("it ends in the middle")

    def _inflate(self) -> Generator[bytes]:
        decompressor = zlib.decompressobj()
        for chunk in self._read_chunks():
            rest = chunk
            while rest:
                yield decompressor.decompress(rest, _INFLATED_BYTES)
                rest = decompressor.unconsumed_tail
        yield decompressor.flush()

    def _read_chunks(self) -> Generator[bytes]:
        size = _CHUNK_BYTES + _TAG_BYTES
        sealed, number = _read_fully(self._source, size), 0
        while True:
            following = _read_fully(self._source, size)
            try:
                yield self._cipher.decrypt(_NONCE.pack(number, not following), sealed, None)
            except (InvalidTag, ValueError):  # a ValueError if it is shorter than a tag
                raise _damaged(f"part {number + 1} was changed, or the rest is cut off") from None
            if not following:
                return
            sealed, number = following, number + 1


def _read_fully(source: BinaryIO, size: int) -> bytes:
    """Read so many bytes, or to the end: a pipe gives what is there."""
    parts = list[bytes]()
    while size > 0 and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _key_context(header: bytes) -> bytes:
    return b"holdfast backup " + hashlib.sha256(header).digest()


def _damaged(finding: str) -> BackupRefused:
    return BackupRefused(
        f"The backup is damaged ({finding}), so nothing was changed. Take another one."
    )
