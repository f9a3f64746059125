"""What does an uploaded shard say files are made of?

A shard of the Xet protocol is a row of 48-byte records: a header, then for each file its hash and
its terms, each a run of chunks in a xorb. What follows, about the xorbs, is not needed here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"HFRepoMetaData\0UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_RECORD_BYTES: Final = 48
_HASH_BYTES: Final = 32
_VERIFICATION_FLAG: Final = 1 << 31
"""A flag of a file: as many records follow as it has terms, with hashes to check them by."""
_SHA256_FLAG: Final = 1 << 30
"""A flag of a file: one more record follows, with its SHA-256."""
_END_MARKER: Final = b"\xff" * _HASH_BYTES


class InvalidShard(Exception):  # said of what was sent, to whoever sent it
    """It is no shard, or it breaks off."""


@dataclass(frozen=True, slots=True)
class XetTerm:
    """Some chunks of a xorb, one after the other."""

    xorb: str
    size: int
    """In bytes, unpacked."""
    first: int
    end: int
    """The number of the chunk after the last."""


def parse_shard(shard: bytes) -> Iterator[tuple[str, list[XetTerm]]]:
    """Yield the hash of each file in a shard, and its terms.

    Raises:
        Unreadable: and nothing of it may be kept.
    """
    if shard[: len(_MAGIC)] != _MAGIC:
        raise InvalidShard("not a shard")
    at = _RECORD_BYTES
    while (record := _read_record(shard, at))[:_HASH_BYTES] != _END_MARKER:
        flags, count = struct.unpack_from("<II", record, _HASH_BYTES)
        terms = [
            _parse_term(_read_record(shard, at + _RECORD_BYTES * (1 + each)))
            for each in range(count)
        ]
        yield _parse_hash(record), terms
        at += _RECORD_BYTES * (
            1 + count * (2 if flags & _VERIFICATION_FLAG else 1) + bool(flags & _SHA256_FLAG)
        )


def _read_record(shard: bytes, offset: int) -> bytes:
    record = shard[offset : offset + _RECORD_BYTES]
    if len(record) < _RECORD_BYTES:
        raise InvalidShard("the shard breaks off")
    return record


def _parse_term(record: bytes) -> XetTerm:
    _, size, first, end = struct.unpack_from("<IIII", record, _HASH_BYTES)
    return XetTerm(_parse_hash(record), size, first, end)


def _parse_hash(record: bytes) -> str:
    # Written as four numbers, not as thirty-two bytes.
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", record))
