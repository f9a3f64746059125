"""Bytes in a call: what is read as base 64, and what is said of anything else."""

import base64

import pytest

from schema.specs.inputs import base64_bytes, media_types

GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0"
PLAIN = base64.b64encode(GIF).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        base64.urlsafe_b64encode(GIF).decode(),
        f" {PLAIN[:20]}\r\n{PLAIN[20:]}\n",
        f"data:image/gif;base64,{PLAIN}",
        f"data:text/html;charset=utf-8;base64,{PLAIN}",
        f"data:;base64,{PLAIN}",
    ],
)
def test_base_64_is_read_however_it_is_written(text: str) -> None:
    """Models and tools write it in several ways; all mean the same bytes."""
    assert base64_bytes.decode_base64(text, max_bytes=100, accepted_types=media_types.IMAGES) == (
        GIF,
        "image/gif",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "this is empty"),
        ("data:;base64,", "this is empty"),
        ("/etc/passwd", "cannot be used|not base 64"),
        ("file:///etc/passwd", "not base 64"),
        ("https://example.com/cat.gif", "not base 64"),
        ("data:image/gif,plain", "not base 64"),
        ("R0lGODlh\u0660", "not base 64"),
        ("A", "not base 64"),
        ("A" * 400, "more than 100 bytes"),
        ("A" * 200, "more than 100 bytes"),
        (base64.b64encode(b"PK\x03\x04" + b"\0" * 40).decode(), "no known kind"),
        (base64.b64encode(b"<svg onload='x'/>").decode(), "no known kind"),
        (base64.b64encode(b"just text").decode(), "it is text/plain"),
        (base64.b64encode(b"GIF89a\xff\xff\xff\xff" + b"\0" * 20).decode(), "65535 x 65535"),
    ],
)
def test_anything_else_is_refused_with_what_to_do(text: str, reason: str) -> None:
    """Neither a path nor a URL is ever opened, and a bomb is not passed on."""
    with pytest.raises(ValueError, match=reason):
        base64_bytes.decode_base64(text, max_bytes=100, accepted_types=media_types.IMAGES)
