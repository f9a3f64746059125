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
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.inputs.public_url import PublicUrl
from schema.specs.validation_errors import describe_problem

T = TypeVar("T")

MAX_TEXTS: Final = 2048
MAX_MEDIA_BYTES: Final = 512 * 1024
"""In a request, which is kept whole; more is fetched from where it lies."""
_MEDIA_EXAMPLE: Final = '{"url": "https://example.com/a.png"} or {"data": "<base64>"}'
_ERROR_TEXTS: Final = {
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


class _ImageUrl(Spec):
    url: Annotated[str, Field(pattern=r"^(https://|data:image/)")]


class ImagePart(Spec):
    """A picture in a turn; whoever runs the model reads it, not we."""

    type: Literal["image_url"]
    image_url: _ImageUrl


class Message(Spec):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _check_has_content(self) -> Self:
        if self.content is None and not self.tool_calls:
            message = "a turn has content, or is the call of a tool"
            raise ValueError(message)
        return self


def _check_media_url(url: str) -> str:
    if url.startswith(HUB_URI_SCHEME):
        HubUri.parse(url)
    else:
        PublicUrl.parse(url)
    return url


class MediaInput(Spec):
    """Bytes to work on: where they are, or what they are."""

    url: Annotated[str, AfterValidator(_check_media_url)] | None = None
    """On the web, or a file of the Hub (`hf://…`)."""
    data: Annotated[str, Field(min_length=1)] | None = None
    """In base 64."""
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """What to make of a picture."""

    @model_validator(mode="after")
    def _check_url_or_data(self) -> Self:
        if (self.url is None) == (self.data is None):
            message = "give either url or data"
            raise ValueError(message)
        return self

    def decode_data(self) -> bytes:
        """Return the bytes, of what has them."""
        return base64.b64decode(self.data or "")


Inputs = str | list[str] | list[Message] | MediaInput

_CHAT_ADAPTER: Final[TypeAdapter[list[Message]]] = TypeAdapter(
    Annotated[list[Message], Field(min_length=1)]
)
_TEXT_ADAPTER: Final[TypeAdapter[str]] = TypeAdapter(
    Annotated[str, Field(strict=True, min_length=1)]
)
_TEXTS_ADAPTER: Final[TypeAdapter[list[str]]] = TypeAdapter(
    Annotated[
        list[Annotated[str, Field(strict=True, min_length=1)]],
        Field(min_length=1, max_length=MAX_TEXTS),
    ]
)
_MEDIA_ADAPTER: Final = TypeAdapter(MediaInput)


def parse_chat(value: object) -> Inputs:
    """Read the turns of a chat; a text is what the user says."""
    if isinstance(value, str):
        return [
            Message(
                role="user", content=_validate_inputs(_TEXT_ADAPTER, value, '"Name three rivers."')
            )
        ]
    return _validate_inputs(
        _CHAT_ADAPTER, value, '[{"role": "user", "content": "Name three rivers."}]'
    )


def parse_text(value: object) -> Inputs:
    """Read one text."""
    return _validate_inputs(_TEXT_ADAPTER, value, '"A lighthouse at dawn."')


def parse_texts(value: object) -> Inputs:
    """Read one text or several."""
    if isinstance(value, str):
        return parse_text(value)
    return _validate_inputs(_TEXTS_ADAPTER, value, '["a river", "a mountain"]')


def parse_media(value: object, accepted_types: frozenset[str], *, allows_prompt: bool) -> Inputs:
    """Read bytes of an accepted media type, or where they are, and perhaps what to make of them."""
    shape = _to_media(value)
    if shape.prompt is not None and not allows_prompt:
        message = f"no prompt is taken; write {_MEDIA_EXAMPLE}"
        raise ValueError(message)
    if shape.data is None:
        return shape
    content, _ = base64_bytes.decode_base64(
        shape.data, max_bytes=MAX_MEDIA_BYTES, accepted_types=accepted_types
    )
    return shape.model_copy(update={"data": base64.b64encode(content).decode()})


def summarize_inputs(inputs: Any) -> str:
    """Return the words of it that a person knows it by, from what is kept of a request."""
    match inputs:
        case str():
            return inputs
        case [*_, str() as last]:
            return last
        case [*_, {"content": str() as said}]:
            return said
        case [*_, {"content": [*parts]}]:
            return " ".join(_part_text(part) for part in parts)
        case {"prompt": str() as said} | {"url": str() as said}:
            return said
        case _:
            return ""


def _part_text(part: Any) -> str:
    return str(part.get("text", ""))


def _to_media(value: object) -> MediaInput:
    """Read what a client may also have written as an address alone, or packed into a text."""
    if isinstance(value, MediaInput):
        return value
    if isinstance(value, str):
        value = _unpack_text(value.strip())
    return _validate_inputs(_MEDIA_ADAPTER, value, _MEDIA_EXAMPLE)


def _unpack_text(text: str) -> object:
    if text.startswith("{"):
        with suppress(ValueError):
            return json.loads(text)
    if text.startswith((HUB_URI_SCHEME, "https://")):
        return {"url": text}
    return {"data": text} if text.startswith("data:") else text


def _validate_inputs(adapter: TypeAdapter[T], value: object, example: str) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        entry = error.errors(include_url=False, include_input=False)[0]
        problem = _ERROR_TEXTS.get(entry["type"]) or describe_problem(entry)
        message = f"{_format_location(entry['loc'])}{problem}; write {example}"
        raise ValueError(message) from None


def _format_location(path: tuple[int | str, ...]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"at {steps.lstrip('.')}, " if steps else ""
