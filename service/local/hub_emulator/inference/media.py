"""Small valid PNG, WAV and MP4 files that say inside that no model has made them.

The bytes are the same for the same request, so that tests can check which bytes arrived.
"""

import hashlib
import math
import struct
import zlib
from typing import Final

_IMAGE_SIDE_PIXELS: Final = 8
_SAMPLE_RATE_HZ: Final = 8000
_TONE_HZ: Final = 440
_TONE_SECONDS: Final = 0.2


def make_png(prompt: str) -> bytes:
    """Make a small square in a colour that depends on the prompt, with the prompt in a comment."""
    colour = hashlib.sha256(prompt.encode()).digest()[:3]
    row = b"\0" + colour * _IMAGE_SIDE_PIXELS
    header = struct.pack(">IIBBBBB", _IMAGE_SIDE_PIXELS, _IMAGE_SIDE_PIXELS, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _png_chunk(kind, content)
        for kind, content in (
            (b"IHDR", header),
            (b"tEXt", b"Comment\0" + _format_note(prompt).encode("latin-1", "replace")),
            (b"IDAT", zlib.compress(row * _IMAGE_SIDE_PIXELS)),
            (b"IEND", b""),
        )
    )


def make_wav(prompt: str) -> bytes:
    """Make a short tone, with the prompt in a comment."""
    samples = b"".join(
        struct.pack("<h", round(8000 * math.sin(2 * math.pi * _TONE_HZ * index / _SAMPLE_RATE_HZ)))
        for index in range(int(_SAMPLE_RATE_HZ * _TONE_SECONDS))
    )
    note = _format_note(prompt).encode()
    note += b"\0" * (1 + (len(note) + 1) % 2)
    form = struct.pack("<HHIIHH", 1, 1, _SAMPLE_RATE_HZ, 2 * _SAMPLE_RATE_HZ, 2, 16)
    body = (
        _riff_chunk(b"fmt ", form)
        + _riff_chunk(b"LIST", b"INFO" + _riff_chunk(b"ICMT", note))
        + _riff_chunk(b"data", samples)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def make_mp4(prompt: str) -> bytes:
    """Make the container of a video without pictures, with the prompt in it."""
    brand = b"isom" + struct.pack(">I", 512) + b"isommp41"
    return b"".join(
        struct.pack(">I", 8 + len(content)) + kind + content
        for kind, content in (
            (b"ftyp", brand),
            (b"free", _format_note(prompt).encode()),
            (b"mdat", b""),
        )
    )


def describe_bytes(content: bytes) -> str:
    """Describe bytes by their number and digest."""
    digest = hashlib.sha256(content).hexdigest()
    return f"[local stand-in; no model was run] {len(content)} bytes, sha256 {digest}"


def _format_note(prompt: str) -> str:
    return f"[local stand-in; no model was run] {prompt}"


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content
