"""Images that a job runs in: a Docker image, or the image of a Space."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schema.common.text import quote_value

_SPACE_URL: Final = re.compile(r"(?:https://)?(?:huggingface|hf)\.co/spaces/(?P<id>.*?)/?")
_SPACE_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SPACE_IMAGE_PREFIX: Final = "hf.co/spaces/"
"""The image of a Space can be written in four ways; it is stored in this one."""
DEFAULT_IMAGE: Final = "python:3.12"
"""The image of a command that names none."""


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
    if "://" in image or any(letter.isspace() for letter in image):
        message = (
            f"{quote_value(image)} is not the name of an image; write one without scheme or "
            f'spaces, such as "python:3.12" or "ghcr.io/astral-sh/uv:python3.12-bookworm"'
        )
        raise ValueError(message)
    return image


Image = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_normalize_image)]
