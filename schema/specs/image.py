"""Images that a job runs in: a Docker image, or the image of a Space."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schema.common.text import quote_value

_SPACE_URL: Final = re.compile(
    r"(?i:(?:https?://)?(?:www\.)?(?:huggingface|hf)\.co)/spaces/(?P<id>.*?)/?"
)
_SPACE_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SPACE_IMAGE_PREFIX: Final = "hf.co/spaces/"
"""The image of a Space can be written in four ways; it is stored in this one."""
DEFAULT_IMAGE: Final = "python:3.12"
"""The image of a command that names none."""
UV_IMAGE: Final = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""The image of a script that names none."""
_HOST: Final = (
    r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+(?=:))"
)
_PATH_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?P<host>{_HOST}(?::\d{{1,5}})?/)?"
    rf"(?P<path>(?:{_PATH_PART}/)*{_PATH_PART})"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?P<digest>@(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)
"""The grammar of the reference of an image, as registries have it."""
_MAX_NAME_CHARS: Final = 255
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HUB_PAGE: Final = re.compile(r"hub\.docker\.com/(?:r/|_/|layers/)?")
_PATH_SPACE: Final = re.compile(r"spaces/(?P<id>[^/]+/[^/]+)")
_SYNTAX: Final = (
    'write [HOST[:PORT]/]NAME[:TAG][@sha256:…], such as "python:3.12" or '
    '"ghcr.io/astral-sh/uv:python3.12-bookworm"'
)


def image_source(image: str) -> dict[str, str]:
    """Return the image as the Hub expects it in a create request."""
    if image.startswith(_SPACE_IMAGE_PREFIX):
        return {"spaceId": image.removeprefix(_SPACE_IMAGE_PREFIX)}
    return {"dockerImage": image}


def _normalize_image(image: str) -> str:
    image = image.strip()
    if (space := _SPACE_URL.fullmatch(image)) is not None:
        if not _SPACE_ID.fullmatch(space["id"]):
            message = f"{quote_value(image)} is not a Space; write one such as hf.co/spaces/ada/app"
            raise ValueError(message)
        return f"{_SPACE_IMAGE_PREFIX}{space['id']}"
    if (space := _PATH_SPACE.fullmatch(_SCHEME.sub("", image))) is not None:
        message = f"{quote_value(image)} is not an image; write {_SPACE_IMAGE_PREFIX}{space['id']}"
        raise ValueError(message)
    if _SCHEME.match(image) or any(letter.isspace() for letter in image):
        form = _find_reference(image)
        example = f'"{form}"' if form else '"python:3.12" or "ghcr.io/astral-sh/uv:latest"'
        message = (
            f"{quote_value(image)} is not the name of an image; write one without scheme or "
            f"spaces, such as {example}"
        )
        raise ValueError(message)
    if not _is_reference(image):
        raise _invalid_reference(image)
    return image


def _is_reference(image: str) -> bool:
    match = _REFERENCE.fullmatch(image)
    return match is not None and len(match["path"]) <= _MAX_NAME_CHARS


def _find_reference(image: str) -> str | None:
    """Return the name of an image in an address, the address of its page, or a command."""
    for word in reversed(image.split()):
        name = _HUB_PAGE.sub("", _SCHEME.sub("", word), count=1)
        if _is_reference(name):
            return name
    return None


def _invalid_reference(image: str) -> ValueError:
    name, colon, tag = image.rpartition(":")
    lower = f"{name.lower()}{colon}{tag}" if colon and "/" not in tag else image.lower()
    if image != lower and _is_reference(lower):
        return ValueError(
            f"{quote_value(image)} is not the name of an image: names are in lower case; write "
            f'"{lower}"'
        )
    if (name := image.partition("@")[0]) != image and _is_reference(name):
        return ValueError(
            f"{quote_value(image)} is not the name of an image: after @ comes a digest of 64 "
            f"digits and letters a to f, as in {name}@sha256:…; a tag comes after a colon"
        )
    return ValueError(f"{quote_value(image)} is not the name of an image; {_SYNTAX}")


Image = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_normalize_image)]
