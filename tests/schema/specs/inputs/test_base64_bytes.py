"""Bytes in a call: what is read as base 64, and what is said of anything else."""

import base64
from urllib.parse import quote

import pytest
from pydantic import JsonValue

from schema.specs.inputs import base64_bytes, media_types
from schema.specs.inputs.file_argument import parse_file_argument
from schema.specs.inputs.inference_inputs import MediaInput, parse_media

GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0"
PLAIN = base64.b64encode(GIF).decode()


FORMS = [
    PLAIN,
    PLAIN.rstrip("="),
    base64.urlsafe_b64encode(GIF).decode(),
    f" {PLAIN[:20]}\r\n{PLAIN[20:]}\n",
    f"data:image/gif;base64,{PLAIN}",
    f"data:text/html;charset=utf-8;base64,{PLAIN}",
    f"data:;base64,{PLAIN}",
    f'data:image/gif; name="a b.gif"; base64, {PLAIN}',
    f"DATA:image/gif;BASE64,{quote(PLAIN, safe='')}",
    "\f".join(PLAIN) + "\u00a0",
]


@pytest.mark.parametrize("text", FORMS)
def test_base_64_is_read_however_it_is_written(text: str) -> None:
    """Models and tools write it in several ways; all mean the same bytes."""
    assert base64_bytes.decode_base64(text, max_bytes=100, accepted_types=media_types.IMAGES) == (
        GIF,
        "image/gif",
    )


@pytest.mark.parametrize("text", FORMS)
def test_models_and_spaces_take_the_same_forms(text: str) -> None:
    """Whoever has sent a picture to one sends it to the other alike."""
    media = parse_media({"data": text}, media_types.IMAGES, allows_prompt=False)
    file = parse_file_argument({"base64": text, "name": "a.gif"})

    assert isinstance(media, MediaInput)
    assert media.decode_data() == GIF
    assert file is not None
    assert file.content == GIF


@pytest.mark.parametrize("head", ["data:image/gif;base64,", "data:;base64,"])
def test_a_data_url_in_the_place_of_a_url_is_the_bytes(head: str) -> None:
    """It is a URL; nothing has to be fetched."""
    values: list[JsonValue] = [{"url": head + PLAIN}, head + PLAIN]
    for value in values:
        media = parse_media(value, media_types.IMAGES, allows_prompt=False)
        file = parse_file_argument(value)

        assert isinstance(media, MediaInput)
        assert (media.url, media.decode_data()) == (None, GIF)
        assert file is not None
        assert (file.url, file.content) == (None, GIF)


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
