"""What does an uploaded shard say files are made of?

A shard of the Xet protocol is a row of 48-byte records: a header, then for each file its hash and
its terms, each a run of chunks in a xorb. What follows, about the xorbs, is not needed here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TAG: Final = b"HFRepoMetaData\0UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_RECORD: Final = 48
_HASH: Final = 32
_VERIFIED: Final = 1 << 31
"""A flag of a file: as many records follow as it has terms, with hashes to check them by."""
_EXTENDED: Final = 1 << 30
"""A flag of a file: one more record follows, with its SHA-256."""
_END: Final = b"\xff" * _HASH


class Unreadable(Exception):  # said of what was sent, to whoever sent it
    """It is no shard, or it breaks off."""


@dataclass(frozen=True, slots=True)
class Term:
    """Some chunks of a xorb, one after the other."""

    xorb: str
    size: int
    """In bytes, unpacked."""
    first: int
    end: int
    """The number of the chunk after the last."""


def files_of(shard: bytes) -> Iterator[tuple[str, list[Term]]]:
    """Yield the hash of each file in a shard, and its terms.

    Raises:
        Unreadable: and nothing of it may be kept.
    """
    if shard[: len(_TAG)] != _TAG:
        raise Unreadable("not a shard")
    at = _RECORD
    while (record := _record(shard, at))[:_HASH] != _END:
        flags, count = struct.unpack_from("<II", record, _HASH)
        terms = [_term(_record(shard, at + _RECORD * (1 + each))) for each in range(count)]
        yield _hash(record), terms
        at += _RECORD * (1 + count * (2 if flags & _VERIFIED else 1) + bool(flags & _EXTENDED))


def _record(shard: bytes, at: int) -> bytes:
    record = shard[at : at + _RECORD]
    if len(record) < _RECORD:
        raise Unreadable("the shard breaks off")
    return record


def _term(record: bytes) -> Term:
    _, size, first, end = struct.unpack_from("<IIII", record, _HASH)
    return Term(_hash(record), size, first, end)


def _hash(record: bytes) -> str:
    # Written as four numbers, not as thirty-two bytes.
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", record))
