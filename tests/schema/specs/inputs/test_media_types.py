"""What bytes are taken for, and which are taken for nothing at all."""

import struct

import pytest

from schema.specs.inputs import media_types


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">HBHH", 17, 8, height, width)
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"\0" * 9 + b"\xff\xc2" + frame + b"\0" * 20


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\0\0\0\0"


def vp8x(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


def vp8l(width: int, height: int) -> bytes:
    packed = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return b"RIFF\x20\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + packed


def vp8(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"RIFF\x20\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + size


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0"


REFUSED_FILES = {
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "empty zip": b"PK\x05\x06" + b"\0" * 18,
    "gzip": b"\x1f\x8b\x08" + b"\0" * 60,
    "7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 60,
    "tar": b"a" * 257 + b"ustar\0" + b"\0" * 249,
    "xz": b"\xfd7zXZ\0" + b"\0" * 60,
    "elf": b"\x7fELF" + b"\0" * 60,
    "exe": b"MZ" + b"\0" * 60,
    "pickle": b"\x80\x04\x95" + b"\0" * 60,
    "html": b"<!doctype html><script>alert(1)</script>",
    "html later": b"\xef\xbb\xbf \r\n\t<HTML>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "xml with entities": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "&b;&b;">]>',
    "utf-16 html": "<html>".encode("utf-16"),
    "riff of another kind": b"RIFF\0\0\0\0AVI " + b"\0" * 60,
    "heic": b"\0\0\0\x18ftypheic" + b"\0" * 60,
    "matroska": b"\x1aE\xdf\xa3\x93B\x82\x88matroska",
    "half a letter": b"na\xc3",
    "png without a header": b"\x89PNG\r\n\x1a\n\0\0\0\rCgBI" + b"\0" * 30,
    "png cut off": b"\x89PNG\r\n\x1a\n\0\0",
    "png of no size": png(0, 5),
    "png bomb": png(50_000, 50_000),
    "png line": png(2**31 - 1, 1),
    "jpeg bomb": jpeg(65_535, 65_535),
    "jpeg of no height": jpeg(100, 0),
    "jpeg without a frame": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    "jpeg going nowhere": b"\xff\xd8\xff\xe0\x00\x00" * 9,
    "gif bomb": gif(65_535, 65_535),
    "webp bomb": vp8x(2**24, 2**24),
    "lossless webp bomb": vp8l(16_384, 16_384),
    "lossy webp bomb": vp8(16_383, 16_383),
}


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_what_is_not_taken_is_told_by_its_bytes(name: str) -> None:
    """An archive is never opened, nor an image decoded, to find out what it is."""
    with pytest.raises(ValueError, match=r"it is of no known kind|its header has no size|pixels"):
        media_types.detect_media_type(REFUSED_FILES[name], media_types.ALL_MEDIA_TYPES)


def test_what_is_known_is_taken_only_where_it_is_of_use() -> None:
    """A film is no picture, and the answer says what would be."""
    with pytest.raises(
        ValueError, match="it is video/mp4; accepted types: image/gif, image/jpeg, image/"
    ):
        media_types.detect_media_type(ACCEPTED_FILES["video/mp4"], media_types.IMAGES)


ACCEPTED_FILES = {
    "image/png": png(8_000, 8_000),
    "image/jpeg": jpeg(16_384, 100),
    "image/gif": gif(1, 1),
    "image/webp": vp8x(10, 10),
    "audio/wav": b"RIFF\0\0\0\0WAVEfmt ",
    "audio/mpeg": b"\xff\xfb\x90\x00",
    "audio/flac": b"fLaC\0",
    "audio/ogg": b"OggS\0",
    "audio/mp4": b"\0\0\0\x20ftypM4A \0",
    "video/mp4": b"\0\0\0\x20ftypisom\0",
    "video/webm": b"\x1aE\xdf\xa3\x93B\x82\x84webm",
    "application/pdf": b"%PDF-1.7\n\xff",
    "text/plain": 'a < b, "é"\n'.encode(),
}


@pytest.mark.parametrize("kind", ACCEPTED_FILES)
def test_what_is_taken_is_told_by_its_bytes(kind: str) -> None:
    """The list is of what models take; everything else is refused."""
    assert media_types.detect_media_type(ACCEPTED_FILES[kind], media_types.ALL_MEDIA_TYPES) == kind
