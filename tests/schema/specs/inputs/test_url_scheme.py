"""Schemes of URLs are read in either case, wherever a caller gives one (`lower_scheme`)."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from schema.specs.image import Image
from schema.specs.inputs.file_argument import parse_file_argument
from schema.specs.inputs.hub_uri import HubUri
from schema.specs.inputs.inference_inputs import parse_chat, parse_media
from schema.specs.inputs.media_types import IMAGES
from schema.specs.inputs.public_url import PublicUrl
from schema.specs.inputs.url_scheme import lower_scheme
from schema.specs.space import SpaceName
from schema.specs.uv.script import ScriptText
from schema.specs.volumes import parse_volume
from tests.schema.specs.inputs.test_inference_inputs import PICTURE

WEB: Final = "https://example.com/A.png"
HUB: Final = "hf://datasets/ada/Set/A.png"
DATA: Final = f"data:image/png;base64,{PICTURE}"


def read_chat(url: str) -> Any:
    """Read the picture of a turn."""
    part = {"type": "image_url", "image_url": {"url": url}}
    return parse_chat([{"role": "user", "content": [part]}])


def read_media(value: Any) -> Any:
    """Read the bytes of a picture, or their address."""
    return parse_media(value, IMAGES, allows_prompt=False)


READERS: Final[list[tuple[Callable[[str], Any], str]]] = [
    *((read_chat, url) for url in (WEB, HUB, DATA)),
    *((read_media, url) for url in (WEB, HUB, DATA)),
    *((lambda url: read_media({"url": url}), url) for url in (WEB, HUB, DATA)),
    (lambda url: read_media({"data": url}), DATA),
    *((parse_file_argument, url) for url in (WEB, HUB, DATA)),
    (PublicUrl.parse, WEB),
    (HubUri.parse, HUB),
    (parse_volume, "hf://datasets/ada/Set:/data"),
    (TypeAdapter(ScriptText).validate_python, "https://example.com/X.py"),
    (TypeAdapter(ScriptText).validate_python, "hf://datasets/ada/Set/X.py"),
    (TypeAdapter(Image).validate_python, "https://huggingface.co/spaces/ada/App"),
    (TypeAdapter(SpaceName).validate_python, "https://huggingface.co/spaces/ada/App"),
]


@pytest.mark.parametrize(("read", "url"), READERS, ids=range(len(READERS)))
@pytest.mark.parametrize("change", [str.upper, str.title])
def test_a_scheme_means_the_same_in_either_case(
    read: Callable[[str], Any], url: str, change: Callable[[str], str]
) -> None:
    """RFC 3986 has it so, and people write `DATA:` and `HTTPS://`."""
    scheme, colon, rest = url.partition(":")

    assert read(f"{change(scheme)}{colon}{rest}") == read(url)


@pytest.mark.parametrize("text", ["", "A: b", "HTTPS", "DATA:x", "see HTTPS://a", "C:\\x"])
def test_another_text_is_unchanged(text: str) -> None:
    """Only a URL has a scheme."""
    assert lower_scheme(text) == text
