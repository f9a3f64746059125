"""Inputs of a model, by task: a text, several texts, the turns of a chat, or bytes.

A text is never read as the name of a file on this machine. Bytes come in the request, or as the
address of a file on the web or at the Hub, which only the workers read. Anything else is refused.
"""

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from schema.common.ids import HandleKind
from schema.specs.base import Spec
from schema.specs.inputs import base64_bytes, media_types
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.inputs.public_url import PublicUrl
from schema.specs.inputs.upload_handles import parse_upload_handle
from schema.specs.inputs.url_scheme import lower_scheme
from schema.specs.validation_errors import describe_problem, format_steps

T = TypeVar("T")

MAX_TEXTS: Final = 2048
MAX_MEDIA_BYTES: Final = 512 * 1024
"""Bytes within a request, which is stored whole; a larger file needs an address."""
_MEDIA_EXAMPLE: Final = '{"url": "https://example.com/a.png"} or {"data": "<base64>"}'
_CHAT_EXAMPLE: Final = '[{"role": "user", "content": "Name three rivers."}]'
_PICTURE_EXAMPLE: Final = (
    '[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, '
    '{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]'
)
_PART_TYPES: Final = frozenset({"text", "image_url"})
_ERROR_TEXTS: Final = {
    "string_type": "this is not a text",
    "string_too_short": "the text is empty",
    "string_pattern_mismatch": "this is no https://, hf:// or data:image/ address",
    "too_short": "this is empty",
    "list_type": "this is not a list",
    "model_type": "this is neither bytes nor an address of them",
    "extra_forbidden": "there is no such field",
    "union_tag_invalid": 'a part has the type "text" or "image_url"',
    "union_tag_not_found": 'a part has a type, "text" or "image_url"',
}
"""Plainer words for what pydantic finds, by its type of error."""


class TextPart(Spec):
    """A text in a turn."""

    type: Literal["text"]
    text: str


def _normalize_picture_url(url: str) -> str:
    """Return a `data:` URL of a picture in the one form that each provider reads."""
    if url.startswith(HUB_URI_SCHEME):
        return str(HubUri.parse(url))
    if not base64_bytes.is_data_url(url):
        return url
    content, media_type = base64_bytes.decode_base64(
        url, max_bytes=MAX_MEDIA_BYTES, accepted_types=media_types.IMAGES
    )
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _lower_scheme(url: object) -> object:
    return lower_scheme(url.lstrip()) if isinstance(url, str) else url


class _ImageUrl(Spec):
    url: Annotated[
        str,
        BeforeValidator(_lower_scheme),
        Field(pattern=r"^(https://|hf://|data:image/)"),
        AfterValidator(_normalize_picture_url),
    ]


class ImagePart(Spec):
    """A picture in a turn. The provider fetches a URL; a worker reads a file of the Hub."""

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
            message = "a turn needs content or tool_calls"
            raise ValueError(message)
        return self


def _check_media_url(url: str) -> str:
    url = lower_scheme(url)
    if parse_upload_handle(url) is not None:
        return url.strip()
    if url.startswith(HUB_URI_SCHEME):
        HubUri.parse(url)
    elif not base64_bytes.is_data_url(url):
        PublicUrl.parse(url)
    return url


class MediaInput(Spec):
    """Bytes to work on: an address, or the bytes themselves."""

    url: Annotated[str, AfterValidator(_check_media_url)] | None = None
    """An `https://` URL, a file of the Hub (`hf://…`), or an upload (`upload_…`)."""
    data: Annotated[str, Field(min_length=1)] | None = None
    """In base 64."""
    prompt: Annotated[str, Field(min_length=1)] | None = None
    """What to do with a picture."""

    @model_validator(mode="after")
    def _check_url_or_data(self) -> Self:
        if (self.url is None) == (self.data is None):
            message = "give either url or data"
            raise ValueError(message)
        return self

    def decode_data(self) -> bytes:
        """Return the bytes; empty if there is only an address."""
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
    """Parse the turns of a chat; a text is one turn of the user.

    Some clients write every list as a text: a text that is a list of turns is those turns.
    """
    value = _unpack_turns(value)
    if isinstance(value, str):
        return [
            Message(
                role="user", content=_validate_inputs(_TEXT_ADAPTER, value, '"Name three rivers."')
            )
        ]
    return _validate_inputs(
        _CHAT_ADAPTER, value, _PICTURE_EXAMPLE if _has_parts(value) else _CHAT_EXAMPLE
    )


def parse_text(value: object) -> Inputs:
    """Parse one text."""
    return _validate_inputs(_TEXT_ADAPTER, value, '"A lighthouse at dawn."')


def parse_texts(value: object) -> Inputs:
    """Parse one text or several."""
    if isinstance(value, str):
        return parse_text(value)
    return _validate_inputs(_TEXTS_ADAPTER, value, '["a river", "a mountain"]')


def parse_media(value: object, accepted_types: frozenset[str], *, allows_prompt: bool) -> Inputs:
    """Parse bytes of an accepted media type, or their address, maybe with a prompt."""
    media = _move_data_url(_to_media(value))
    if media.prompt is not None and not allows_prompt:
        message = f"this task takes no prompt; write {_MEDIA_EXAMPLE}"
        raise ValueError(message)
    if media.data is None:
        return media
    content, _ = base64_bytes.decode_base64(
        media.data, max_bytes=MAX_MEDIA_BYTES, accepted_types=accepted_types
    )
    return media.model_copy(update={"data": base64.b64encode(content).decode()})


def list_hub_pictures(inputs: Inputs) -> list[str]:
    """List the URIs of the pictures of a chat that are files of the Hub, each once."""
    if not isinstance(inputs, list):
        return []
    parts = [
        part
        for turn in inputs
        if isinstance(turn, Message) and isinstance(turn.content, list)
        for part in turn.content
    ]
    urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    return list(dict.fromkeys(url for url in urls if url.startswith(HUB_URI_SCHEME)))


def replace_picture_urls(turns: list[dict[str, Any]], urls: Mapping[str, str]) -> None:
    """Replace addresses of pictures in the turns of a chat, which are written as JSON."""
    for turn in turns:
        if not isinstance(turn.get("content"), list):
            continue
        for part in cast("list[dict[str, Any]]", turn["content"]):
            if "image_url" in part:
                url: str = part["image_url"]["url"]
                part["image_url"]["url"] = urls.get(url, url)


def summarize_inputs(inputs: Any) -> str:
    """Return the text by which a person recognizes the stored inputs of a request."""
    match inputs:
        case str():
            return inputs
        case [*_, str() as last]:
            return last
        case [*_, {"content": str() as text}]:
            return text
        case [*_, {"content": [*parts]}]:
            return " ".join(_part_text(part) for part in parts)
        case {"prompt": str() as text} | {"url": str() as text}:
            return text
        case _:
            return ""


def _part_text(part: Any) -> str:
    return str(part.get("text", ""))


def _to_media(value: object) -> MediaInput:
    """Parse media; clients also write a bare address, or JSON inside of a text."""
    if isinstance(value, MediaInput):
        return value
    if isinstance(value, str):
        value = _unpack_text(value.strip())
    return _validate_inputs(_MEDIA_ADAPTER, value, _MEDIA_EXAMPLE)


def _move_data_url(media: MediaInput) -> MediaInput:
    """Take a `data:` URL for what it is: the bytes themselves."""
    if media.url is None or not base64_bytes.is_data_url(media.url):
        return media
    return media.model_copy(update={"url": None, "data": media.url})


def _unpack_turns(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        turns: list[Any] = json.loads(value)
    except (ValueError, RecursionError):
        return value
    is_chat = bool(turns) and all(isinstance(turn, dict) and "role" in turn for turn in turns)
    return turns if is_chat else value


def _has_parts(turns: object) -> bool:
    return isinstance(turns, list) and any(
        isinstance(turn, dict) and isinstance(cast("dict[str, Any]", turn).get("content"), list)
        for turn in cast("list[object]", turns)
    )


def _unpack_text(text: str) -> object:
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    if lower_scheme(text).startswith((HUB_URI_SCHEME, "https://", f"{HandleKind.UPLOAD}_")):
        return {"url": text}
    return {"data": text} if base64_bytes.is_data_url(text) else text


def _validate_inputs(adapter: TypeAdapter[T], value: object, example: str) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        # A union fails once for each member; the deepest failure is of the member that was meant.
        entry = max(
            error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"])
        )
        problem = _ERROR_TEXTS.get(entry["type"]) or describe_problem(entry)
        message = f"{_format_location(entry['loc'])}{problem}; write {example}"
        raise ValueError(message) from None


def _format_location(path: tuple[int | str, ...]) -> str:
    # pydantic also names the type by which it chose the class of a part.
    steps = format_steps(
        step
        for before, step in zip((None, *path), path, strict=False)
        if not (isinstance(before, int) and step in _PART_TYPES)
    )
    return f"at {steps.lstrip('.')}, " if steps else ""
