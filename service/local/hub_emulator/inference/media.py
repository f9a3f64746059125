"""Real files for what no model has made: a picture, a sound, a film; each says so in itself.

Small, valid, and the same for the same request, so that tests can see which bytes arrived.
"""

import hashlib
import math
import struct
import zlib
from typing import Final

_SIDE: Final = 8
_RATE: Final = 8000
_TONE: Final = 440
_SECONDS: Final = 0.2


def picture(asked: str) -> bytes:
    """Draw a small square in a colour of its own; what was asked for stands in a comment."""
    colour = hashlib.sha256(asked.encode()).digest()[:3]
    row = b"\0" + colour * _SIDE
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, content)
        for kind, content in (
            (b"IHDR", header),
            (b"tEXt", b"Comment\0" + _note(asked).encode("latin-1", "replace")),
            (b"IDAT", zlib.compress(row * _SIDE)),
            (b"IEND", b""),
        )
    )


def sound(asked: str) -> bytes:
    """Play a short tone; what was asked for stands in a comment."""
    wave = b"".join(
        struct.pack("<h", round(8000 * math.sin(2 * math.pi * _TONE * step / _RATE)))
        for step in range(int(_RATE * _SECONDS))
    )
    note = _note(asked).encode()
    note += b"\0" * (1 + (len(note) + 1) % 2)
    form = struct.pack("<HHIIHH", 1, 1, _RATE, 2 * _RATE, 2, 16)
    body = (
        _piece(b"fmt ", form)
        + _piece(b"LIST", b"INFO" + _piece(b"ICMT", note))
        + _piece(b"data", wave)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def film(asked: str) -> bytes:
    """Write the container of a film that has no pictures; what was asked for stands in it."""
    brand = b"isom" + struct.pack(">I", 512) + b"isommp41"
    return b"".join(
        struct.pack(">I", 8 + len(content)) + kind + content
        for kind, content in (
            (b"ftyp", brand),
            (b"free", _note(asked).encode()),
            (b"mdat", b""),
        )
    )


def heard(content: bytes) -> str:
    """Say which bytes arrived."""
    digest = hashlib.sha256(content).hexdigest()
    return f"[local stand-in; no model was run] {len(content)} bytes, sha256 {digest}"


def _note(asked: str) -> str:
    return f"[local stand-in; no model was run] {asked}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _piece(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content
