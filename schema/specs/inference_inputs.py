"""What a model can be given, by task: words, the turns of a chat, several texts, or bytes.

A text is never taken for the name of a file of ours. Bytes are given as they are, or by where they
lie, on the web or at the Hub, which only the workers read; whatever else is given is refused.
"""

import base64
import json
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from schema.specs.base import Spec
from schema.specs.inputs import base64_bytes
from schema.specs.inputs.hub_uri import HubPath
from schema.specs.inputs.public_url import WebAddress

T = TypeVar("T")

MOST_TEXTS: Final = 2048
MOST_BYTES: Final = 512 * 1024
"""In a request, which is kept whole; more is fetched from where it lies."""
HUB: Final = "hf://"
_MEDIA_EXAMPLE: Final = '{"url": "https://example.com/a.png"} or {"data": "<base64>"}'
_PLAINLY: Final = {
    "string_type": "this is no text",
    "string_too_short": "the text is empty",
    "string_pattern_mismatch": "this is neither an https:// nor a data:image/ address",
    "too_short": "nothing is given",
    "list_type": "this is no list",
    "model_type": "this is neither bytes nor an address of them",
}
"""What is wrong, where pydantic says what it would have been right for."""


class TextPart(Spec):
    """Words in a turn."""

    type: Literal["text"]
    text: str


class _ImageAddress(Spec):
    url: Annotated[str, Field(pattern=r"^(https://|data:image/)")]


class ImagePart(Spec):
    """A picture in a turn; whoever runs the model reads it, not we."""

    type: Literal["image_url"]
    image_url: _ImageAddress


class Message(Spec):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            message = "a turn has content, or is the call of a tool"
            raise ValueError(message)
        return self


def _address(url: str) -> str:
    if url.startswith(HUB):
        HubPath.read(url)
    else:
        WebAddress.read(url)
    return url


class Media(Spec):
    """Bytes to work on: where they are, or what they are."""

    url: Annotated[str, AfterValidator(_address)] | None = None
    """On the web, or a file of the Hub (`hf://…`)."""
    data: Annotated[str, Field(min_length=1)] | None = None
    """In base 64."""
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """What to make of a picture."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.url is None) == (self.data is None):
            message = "give either url or data"
            raise ValueError(message)
        return self

    def content(self) -> bytes:
        """Return the bytes, of what has them."""
        return base64.b64decode(self.data or "")


Inputs = str | list[str] | list[Message] | Media

_CHAT: Final[TypeAdapter[list[Message]]] = TypeAdapter(
    Annotated[list[Message], Field(min_length=1)]
)
_TEXT: Final[TypeAdapter[str]] = TypeAdapter(Annotated[str, Field(strict=True, min_length=1)])
_TEXTS: Final[TypeAdapter[list[str]]] = TypeAdapter(
    Annotated[
        list[Annotated[str, Field(strict=True, min_length=1)]],
        Field(min_length=1, max_length=MOST_TEXTS),
    ]
)
_MEDIA: Final = TypeAdapter(Media)


def chat(given: object) -> Inputs:
    """Read the turns of a chat; a text is what the user says."""
    if isinstance(given, str):
        return [Message(role="user", content=_read(_TEXT, given, '"Name three rivers."'))]
    return _read(_CHAT, given, '[{"role": "user", "content": "Name three rivers."}]')


def text(given: object) -> Inputs:
    """Read one text."""
    return _read(_TEXT, given, '"A lighthouse at dawn."')


def texts(given: object) -> Inputs:
    """Read one text or several."""
    if isinstance(given, str):
        return text(given)
    return _read(_TEXTS, given, '["a river", "a mountain"]')


def media(given: object, accept: frozenset[str], *, prompted: bool) -> Inputs:
    """Read bytes of an accepted media type, or where they are, and perhaps what to make of them."""
    shape = _media(given)
    if shape.prompt is not None and not prompted:
        message = f"no prompt is taken; write {_MEDIA_EXAMPLE}"
        raise ValueError(message)
    if shape.data is None:
        return shape
    content, _ = base64_bytes.read(shape.data, limit_bytes=MOST_BYTES, accept=accept)
    return shape.model_copy(update={"data": base64.b64encode(content).decode()})


def gist(inputs: Any) -> str:
    """Return the words of it that a person knows it by, from what is kept of a request."""
    match inputs:
        case str():
            return inputs
        case [*_, str() as last]:
            return last
        case [*_, {"content": str() as said}]:
            return said
        case [*_, {"content": [*parts]}]:
            return " ".join(_words_of(part) for part in parts)
        case {"prompt": str() as said} | {"url": str() as said}:
            return said
        case _:
            return ""


def _words_of(part: Any) -> str:
    return str(part.get("text", ""))


def _media(given: object) -> Media:
    """Read what a client may also have written as an address alone, or packed into a text."""
    if isinstance(given, Media):
        return given
    if isinstance(given, str):
        given = _unpacked(given.strip())
    return _read(_MEDIA, given, _MEDIA_EXAMPLE)


def _unpacked(given: str) -> object:
    if given.startswith("{"):
        with suppress(ValueError):
            return json.loads(given)
    if given.startswith((HUB, "https://")):
        return {"url": given}
    return {"data": given} if given.startswith("data:") else given


def _read(shape: TypeAdapter[T], given: object, example: str) -> T:
    try:
        return shape.validate_python(given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        said = _PLAINLY.get(wrong["type"]) or wrong["msg"].removeprefix("Value error, ")
        message = f"{_where(wrong['loc'])}{said[:1].lower()}{said[1:]}; write {example}"
        raise ValueError(message) from None


def _where(path: tuple[int | str, ...]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"at {steps.lstrip('.')}, " if steps else ""
