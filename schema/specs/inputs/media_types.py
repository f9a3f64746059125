"""Media types, found by the first bytes of a content; no HTTP header, name or decoder is used.

Only harmless types are recognized: no model takes archives, HTML, SVG or other XML. An image whose
header declares far too many pixels is refused, because decoding it would exhaust the memory.
"""

import codecs
import struct
from collections.abc import Callable, Iterator
from typing import Final

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
AUDIO: Final = frozenset(
    {"audio/wav", "audio/mpeg", "audio/aac", "audio/flac", "audio/ogg", "audio/mp4"}
)
VIDEO: Final = frozenset({"video/mp4", "video/quicktime", "video/webm"})
TEXT: Final = frozenset({"text/plain"})
DOCUMENTS: Final = frozenset({"application/pdf"})
ALL_MEDIA_TYPES: Final = IMAGES | AUDIO | VIDEO | TEXT | DOCUMENTS

_BINARY: Final = ALL_MEDIA_TYPES - TEXT
_MAX_SIDE_PIXELS: Final = 16_384
_MAX_PIXELS: Final = 64_000_000
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"%PDF-", "application/pdf"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS: Final = {b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"qt  ": "video/quicktime"}
_VIDEO_BRANDS: Final = frozenset(
    {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash"}
)
_MATROSKA: Final = b"\x1aE\xdf\xa3"
_WEBM_SEARCH_BYTES: Final = 64
_MP3_FRAMES: Final = frozenset({0xFA, 0xFB, 0xF2, 0xF3, 0xE2, 0xE3})
"""The second byte of a frame of layer III, with and without a checksum, of MPEG 1, 2 and 2.5."""
_NON_TEXT_BYTES: Final = bytes(set(range(32)) - set(b"\t\n\f\r\x1b")) + b"\x7f"
_START_OF_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})


def detect_media_type(content: bytes, accepted_types: frozenset[str]) -> str:
    """Return the media type of bytes, found in the bytes.

    Raises:
        ValueError: it is not accepted, or the bytes are an image of too many pixels.
    """
    media_type = _sniff_media_type(content)
    if media_type not in accepted_types:
        message = (
            f"it is {media_type or 'of no known kind'}; accepted types: "
            f"{', '.join(sorted(accepted_types))}"
        )
        raise ValueError(message)
    if media_type in IMAGES:
        _expect_pixel_limit(content, media_type)
    return media_type


def choose_media_type(head: bytes, declared: str | None, *, is_whole: bool) -> str:
    """Return the media type of a file, of which only the first bytes are looked at.

    Any file may be sent, so what is not recognized is taken for what it was declared as.

    Args:
        head: its first bytes.
        declared: what its sender calls it; None if they do not say.
        is_whole: whether there are no more bytes.

    Raises:
        ValueError: it is recognized as something else than what was declared, or is an image of too
            many pixels.
    """
    if not is_whole:
        head = _without_cut_letter(head)
    media_type = _sniff_media_type(head)
    if media_type in IMAGES:
        _expect_pixel_limit(head, media_type)
    if declared is None:
        return media_type or "application/octet-stream"
    is_other = declared != media_type if declared in ALL_MEDIA_TYPES else media_type in _BINARY
    if is_other:
        message = f"it was declared as {declared}, and it is {media_type or 'of no known kind'}"
        raise ValueError(message)
    return declared


def _without_cut_letter(head: bytes) -> bytes:
    """Leave out the last letter in UTF-8, if only the first of its bytes are there."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head).encode()
    except UnicodeDecodeError:
        return head


def _sniff_media_type(content: bytes) -> str | None:
    for magic, media_type in _MAGIC:
        if content.startswith(magic):
            return media_type
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12])
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return _BRANDS.get(brand, "video/mp4" if brand in _VIDEO_BRANDS else None)
    if content.startswith(_MATROSKA):
        return "video/webm" if b"webm" in content[:_WEBM_SEARCH_BYTES] else None
    if content[:1] == b"\xff" and content[1:2] and content[1] in _MP3_FRAMES:
        return "audio/mpeg"
    return "text/plain" if _is_plain_text(content) else None


def _is_plain_text(content: bytes) -> bool:
    if not content or content.translate(None, _NON_TEXT_BYTES) != content:
        return False
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    # A browser reads a text that begins so as HTML, whatever type it is sent with.
    return not text.lstrip().startswith("<")


def _expect_pixel_limit(content: bytes, media_type: str) -> None:
    try:
        width, height = _SIZE_READERS[media_type](content)
    except (struct.error, StopIteration, IndexError):
        width = height = 0
    if not width or not height:
        raise ValueError("its header has no size, so it is not an image")
    if max(width, height) > _MAX_SIDE_PIXELS or width * height > _MAX_PIXELS:
        message = (
            f"it is an image of {width} x {height} pixels; accepted are at most "
            f"{_MAX_SIDE_PIXELS} on a side and {_MAX_PIXELS // 1_000_000} million in total"
        )
        raise ValueError(message)


def _read_png_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return (width, height) if content[12:16] == b"IHDR" else (0, 0)


def _read_gif_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _read_jpeg_size(content: bytes) -> tuple[int, int]:
    start = next(
        offset
        for marker, offset in _iter_jpeg_segments(content)
        if marker in _START_OF_FRAME_MARKERS
    )
    height, width = struct.unpack_from(">HH", content, start + 5)
    return width, height


def _iter_jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker and the offset of each segment of a JPEG, up to that of the picture."""
    offset = 2
    while content[offset] == 0xFF:  # noqa: PLR2004  # every marker begins with it
        marker = content[offset + 1]
        if marker == 0xFF:  # noqa: PLR2004  # a fill byte
            offset += 1
            continue
        yield marker, offset
        offset += 2
        if marker not in _MARKERS_WITHOUT_LENGTH:
            offset += struct.unpack_from(">H", content, offset)[0]


def _read_webp_size(content: bytes) -> tuple[int, int]:
    chunk = content[12:16]
    if chunk == b"VP8X":
        width, height = content[24:27], content[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if chunk == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return (width & 0x3FFF, height & 0x3FFF) if chunk == b"VP8 " else (0, 0)


_SIZE_READERS: Final[dict[str, Callable[[bytes], tuple[int, int]]]] = {
    "image/png": _read_png_size,
    "image/gif": _read_gif_size,
    "image/jpeg": _read_jpeg_size,
    "image/webp": _read_webp_size,
}
