"""What does a job run in: a Docker image, or what a Space was built into?"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_SPACE: Final = re.compile(r"(?:https://)?(?:huggingface|hf)\.co/spaces/(?P<id>.*?)/?")
_SPACE_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_OF_A_SPACE: Final = "hf.co/spaces/"
"""How the image of a Space is stored, of the four ways in which it is written."""
PYTHON: Final = "python:3.12"
"""What a command runs in, unless its launch says otherwise."""
_SHOWN: Final = 60


def source(image: str) -> dict[str, str]:
    """Say what runs, as the Hub wants it in a create request."""
    if image.startswith(_OF_A_SPACE):
        return {"spaceId": image.removeprefix(_OF_A_SPACE)}
    return {"dockerImage": image}


def _image(image: str) -> str:
    image = image.strip()
    if (space := _SPACE.fullmatch(image)) is not None:
        if not _SPACE_ID.fullmatch(space["id"]):
            message = f"{image[:_SHOWN]!r} is not a Space; write one such as hf.co/spaces/ada/app"
            raise ValueError(message)
        return f"{_OF_A_SPACE}{space['id']}"
    if "://" in image or any(letter.isspace() for letter in image):
        message = (
            f"{image[:_SHOWN]!r} is not the name of an image; write one without scheme or spaces, "
            f'such as "python:3.12" or "ghcr.io/astral-sh/uv:python3.12-bookworm"'
        )
        raise ValueError(message)
    return image


Image = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_image)]
