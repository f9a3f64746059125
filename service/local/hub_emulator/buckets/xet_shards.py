"""Parser of uploaded shards, which say of which chunks each file consists.

A shard of the Xet protocol is a sequence of 48-byte records: a header, then for each file its hash
and its terms. A term is a run of chunks in a xorb. The records about xorbs that follow are not
needed here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"HFRepoMetaData\0UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_RECORD_BYTES: Final = 48
_HASH_BYTES: Final = 32
_VERIFICATION_FLAG: Final = 1 << 31
"""Flag of a file: after its terms follow as many records again, with verification hashes."""
_SHA256_FLAG: Final = 1 << 30
"""Flag of a file: one more record follows, with its SHA-256."""
_END_MARKER: Final = b"\xff" * _HASH_BYTES


class InvalidShard(Exception):
    """The uploaded bytes are not a shard, or not all of one."""


@dataclass(frozen=True, slots=True)
class XetTerm:
    """Consecutive chunks of a xorb."""

    xorb: str
    size: int
    """Bytes, uncompressed."""
    first: int
    end: int
    """The index after the last chunk."""


def parse_shard(shard: bytes) -> Iterator[tuple[str, list[XetTerm]]]:
    """Yield the hash and the terms of each file in a shard.

    Raises:
        InvalidShard: the caller must not store any of its files.
    """
    if shard[: len(_MAGIC)] != _MAGIC:
        raise InvalidShard("not a shard")
    offset = _RECORD_BYTES
    while (record := _read_record(shard, offset))[:_HASH_BYTES] != _END_MARKER:
        flags, count = struct.unpack_from("<II", record, _HASH_BYTES)
        terms = [
            _parse_term(_read_record(shard, offset + _RECORD_BYTES * (1 + index)))
            for index in range(count)
        ]
        yield _parse_hash(record), terms
        offset += _RECORD_BYTES * (
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
    # The protocol writes a hash as four little-endian numbers, not as thirty-two bytes.
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", record))
