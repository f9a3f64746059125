"""The turns of a chat, as a provider reads them."""

import json
from typing import Any

import pytest

from schema.specs.inputs.inference_inputs import Message, parse_chat

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
URL_SAFE = PICTURE.replace("+", "-").replace("/", "_").rstrip("=")
CANONICAL = f"data:image/png;base64,{PICTURE}"


def make_turn(url: str) -> list[dict[str, Any]]:
    """Ask about a picture."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def read_picture_url(url: str) -> str:
    """Return the address that a provider is sent."""
    turns = parse_chat(make_turn(url))
    assert isinstance(turns, list)
    [message] = turns
    assert isinstance(message, Message)
    [part] = message.model_dump()["content"]
    sent: str = part["image_url"]["url"]
    return sent


@pytest.mark.parametrize(
    "url",
    [
        CANONICAL,
        f"data:image/jpeg;base64,{PICTURE}",
        f"data:image/png;base64,{URL_SAFE}",
        f"data:image/png; name=a.png; base64,{PICTURE[:40]}\n{PICTURE[40:]}",
        f"data:image/png;base64,{PICTURE.replace('=', '%3D').replace('+', '%2B')}",
    ],
)
def test_a_picture_in_a_chat_is_sent_in_one_form(url: str) -> None:
    """Alphabets, line breaks and types that a caller got wrong are no matter for a provider."""
    assert read_picture_url(url) == CANONICAL


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "hf://buckets/ada/b/a.png",
        "data:image/svg+xml,%3Csvg/%3E",
    ],
)
def test_an_address_in_a_chat_stays_as_it_is(url: str) -> None:
    """The provider reads it, or the worker that sends the chat."""
    assert read_picture_url(url) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("data:image/png;base64,/tmp/a.png", "not base 64"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "cannot be used"),
        ("data:image/png;base64,", "empty"),
        ("hf://datasets/ada/../bob/a.png", "is not a file of the Hub"),
    ],
)
def test_a_picture_in_a_chat_that_is_none_is_refused(url: str, says: str) -> None:
    """Before a provider is paid for an error."""
    with pytest.raises(ValueError, match=says):
        parse_chat(make_turn(url))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "image", "url": "x"}, r'at \[0\].content\[0\], a part has the type "text" or'),
        ({"text": "x"}, r'at \[0\].content\[0\], a part has a type, "text" or'),
        ({"type": "text", "text": "x", "size": 1}, r"\.size, there is no such field"),
        ({"type": "image_url", "image_url": "x"}, "image_url, this is neither bytes"),
    ],
)
def test_a_wrong_part_of_a_turn_is_named(part: dict[str, Any], says: str) -> None:
    """Not the turn as a whole, as if it had to be a text."""
    with pytest.raises(ValueError, match=says):
        parse_chat([{"role": "user", "content": [part]}])


@pytest.mark.parametrize(
    ("picture", "place"),
    [
        (CANONICAL, r"\[0\].content\[1\].image_url, this"),
        ({"url": "file:///a.png"}, r"\[0\].content\[1\].image_url.url, this"),
    ],
)
def test_a_refused_picture_has_its_place_and_the_form_of_one(picture: object, place: str) -> None:
    """An example of a text helps nobody who sends a picture."""
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": picture}]

    with pytest.raises(ValueError, match=f"^at {place}") as refused:
        parse_chat([{"role": "user", "content": parts}])

    example = json.loads(str(refused.value).split("; write ")[1])
    assert example[0]["content"][1]["type"] == "image_url"
    assert parse_chat(example)
