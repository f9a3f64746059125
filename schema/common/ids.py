"""TypeIDs, which clients hold as handles: a prefix such as `job_`, and a UUIDv7 in base 32.

The alphabet is Crockford's. A handle is an identity and no authority: every read compares the
subject as well.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from schema.common.errors import Invalid
from schema.common.text import quote_value

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LETTER_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_SUFFIX_LENGTH: Final = 26
_HANDLE_PATTERN: Final = re.compile(r"([a-z]+)_([0-9a-z]+)")

JobChangeListener = Callable[[Mapping[UUID, int]], None]
"""Called with the jobs that a commit has changed, by id, each with its new version."""


class HandleKind(StrEnum):
    """The kinds of entities that have a handle, by prefix."""

    JOB = "job"
    WORKSPACE = "ws"
    SCHEDULE = "sched"
    UPLOAD = "upload"

    @property
    def noun(self) -> str:
        """The word for it in a sentence."""
        return {
            HandleKind.JOB: "job",
            HandleKind.WORKSPACE: "workspace",
            HandleKind.SCHEDULE: "schedule",
            HandleKind.UPLOAD: "upload",
        }[self]

    @property
    def article(self) -> str:
        """The article before that word."""
        return "an" if self is HandleKind.UPLOAD else "a"


def new_id() -> UUID:
    """Make a UUIDv7 (RFC 9562): random, but rows created together lie together in an index."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return UUID(int=value | 0b10 << 62 | secrets.randbits(62))


def derive_id(moment: datetime, *parts: str) -> UUID:
    """Make the UUIDv7 of a moment whose other bits are those of a digest: the same for the same."""
    milliseconds = min(max(int(moment.timestamp() * 1000), 0), (1 << 48) - 1)
    digest = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:10], "big")
    value = milliseconds << 80 | 0x7 << 76 | (digest >> 62 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | digest & ((1 << 62) - 1))


def format_handle(kind: HandleKind, entity_id: UUID) -> str:
    """Write the handle of an entity."""
    value = entity_id.int
    letters = [_ALPHABET[value >> 5 * place & 31] for place in range(_SUFFIX_LENGTH)]
    return f"{kind}_{''.join(reversed(letters))}"


def parse_handle(kind: HandleKind, handle: str) -> UUID:
    """Return the id that a handle stands for.

    Raises:
        Invalid: it is not a handle of this kind.
    """
    match = _HANDLE_PATTERN.fullmatch(handle.strip().lower())
    if match is None or match[1] not in set(HandleKind) or not _is_suffix(match[2]):
        raise Invalid(
            f"{quote_value(handle)} is not {kind.article} {kind.noun} handle. "
            f"{kind.article.capitalize()} {kind.noun} handle is "
            f"{kind}_ and {_SUFFIX_LENGTH} letters and digits, exactly as it was given to you."
        )
    if match[1] != kind:
        noun = HandleKind(match[1]).noun
        article = HandleKind(match[1]).article
        raise Invalid(
            f"{handle!r} is {article} {noun} handle; {kind.article} {kind.noun} handle ({kind}_…) "
            "goes here."
        )
    return _decode_suffix(match[2])


def prefix_range(kind: HandleKind, prefix: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and the highest id whose handle has a prefix; None if no handle has it."""
    type_prefix, prefix = f"{kind}_", prefix.strip().lower()
    suffix = prefix.removeprefix(type_prefix)
    if suffix == prefix:
        if not type_prefix.startswith(prefix):
            return None
        suffix = ""
    low, high = suffix.ljust(_SUFFIX_LENGTH, "0"), (suffix or "7").ljust(_SUFFIX_LENGTH, "z")
    return (_decode_suffix(low), _decode_suffix(high)) if _is_suffix(low) else None


def _decode_suffix(text: str) -> UUID:
    value = 0
    for letter in text:
        value = value << 5 | _LETTER_VALUES[letter]
    return UUID(int=value)


def _is_suffix(text: str) -> bool:
    # 26 letters hold 130 bits: the first may only carry the three that a UUID has left.
    return len(text) == _SUFFIX_LENGTH and set(text) <= set(_ALPHABET) and text[0] <= "7"
