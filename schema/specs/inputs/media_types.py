"""What is in these bytes? What they begin with says so; no header, no name, and no decoder.

What is not known to be harmless is not recognized: archives, HTML, SVG and other XML are nothing
that a model takes, and an image whose header promises more pixels than anybody needs is a bomb.
"""

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
    """Return the media type of bytes, by what they are.

    Raises:
        ValueError: they are none of what is accepted, or an image of more pixels than is taken.
    """
    found = _sniff_media_type(content)
    if found not in accepted_types:
        message = (
            f"it is {found or 'of no known kind'}; taken are {', '.join(sorted(accepted_types))}"
        )
        raise ValueError(message)
    if found in IMAGES:
        _expect_pixel_limit(content, found)
    return found


def _sniff_media_type(content: bytes) -> str | None:
    for magic, kind in _MAGIC:
        if content.startswith(magic):
            return kind
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
    # A browser takes for HTML what begins so, whatever it is called.
    return not text.lstrip().startswith("<")


def _expect_pixel_limit(content: bytes, media_type: str) -> None:
    try:
        width, height = _SIZE_READERS[media_type](content)
    except (struct.error, StopIteration, IndexError):
        width = height = 0
    if not width or not height:
        raise ValueError("its header says no size, so it is not an image")
    if max(width, height) > _MAX_SIDE_PIXELS or width * height > _MAX_PIXELS:
        message = (
            f"it is an image of {width} x {height} pixels; taken are up to {_MAX_SIDE_PIXELS} on a "
            f"side and {_MAX_PIXELS // 1_000_000} million in all"
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
        at for marker, at in _iter_jpeg_segments(content) if marker in _START_OF_FRAME_MARKERS
    )
    height, width = struct.unpack_from(">HH", content, start + 5)
    return width, height


def _iter_jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield what kind of segment a JPEG has, and where, up to the one that has the picture."""
    at = 2
    while content[at] == 0xFF:  # noqa: PLR2004  # what every marker begins with
        marker = content[at + 1]
        if marker == 0xFF:  # noqa: PLR2004  # a fill byte
            at += 1
            continue
        yield marker, at
        at += 2
        if marker not in _MARKERS_WITHOUT_LENGTH:
            at += struct.unpack_from(">H", content, at)[0]


def _read_webp_size(content: bytes) -> tuple[int, int]:
    form = content[12:16]
    if form == b"VP8X":
        width, height = content[24:27], content[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if form == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return (width & 0x3FFF, height & 0x3FFF) if form == b"VP8 " else (0, 0)


_SIZE_READERS: Final[dict[str, Callable[[bytes], tuple[int, int]]]] = {
    "image/png": _read_png_size,
    "image/gif": _read_gif_size,
    "image/jpeg": _read_jpeg_size,
    "image/webp": _read_webp_size,
}
