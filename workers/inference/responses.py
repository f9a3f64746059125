"""Parser of providers' responses: one shape of output for each task, whatever the provider.

chat         chat-completion, in `workers.inference.chat_answers`
text         text-generation, summarization, translation, image-to-text,
             automatic-speech-recognition (with `chunks`, where it has them)
labels       text-, zero-shot- and image-classification: label and score, the highest score first
embeddings   feature-extraction: one for each text
media        tasks that generate an image, audio or a video: bytes, or their URL
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, cast

from pydantic import Field, TypeAdapter

from schema.artifacts.files import NewJobFile
from schema.common.text import quote_value, shorten
from schema.specs.inference import CHAT, EMBEDDINGS
from schema.specs.inputs.url_scheme import lower_scheme
from workers.inference import chat_answers
from workers.inference.router import RouterResponse, parse_error_message

_MEDIA_KINDS: Final = {
    "text-to-image": "image",
    "image-to-image": "image",
    "text-to-video": "video",
    "image-to-video": "video",
    "text-to-speech": "audio",
}
_LABEL_TASKS: Final = frozenset(
    {"text-classification", "zero-shot-classification", "image-classification"}
)
_WRITING_TASKS: Final = frozenset({"text-generation", "summarization", "translation"})
_MAX_SHOWN_BYTES: Final = 400
_MAX_ERROR_CHARS: Final = 300
_TEXT_FIELDS: Final = (
    "generated_text",
    "summary_text",
    "translation_text",
    "text",
    "transcription",
    "translation",
)
_DATA_URL_PREFIX: Final = "data:"
_Vector = Annotated[list[float | None], Field(min_length=1)]
_Vectors = Annotated[list[_Vector], Field(min_length=1)]
_EMBEDDINGS_ADAPTER: Final[TypeAdapter[_Vector | _Vectors | list[_Vectors]]] = TypeAdapter(
    _Vector | _Vectors | Annotated[list[_Vectors], Field(min_length=1)]
)
"""For one text, for several; or for each token of each, if a model does not pool them."""


class UnreadableResponse(Exception):
    """The response has none of the known formats of its task."""


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """The output of a call."""

    result: dict[str, Any] = field(default_factory=dict[str, Any])
    """The part that goes into the result."""
    media: list[bytes | str] = field(default_factory=list["bytes | str"])
    """The part that becomes files; a text is the URL to fetch a file from."""
    files: list[NewJobFile] = field(default_factory=list[NewJobFile])
    """The parts of the result that are too long for it."""
    problem: str | None = None
    """Why nothing of it can be used; None if something can."""


def media_kind(task: str) -> str | None:
    """Return the kind of media that a task generates; None if it generates none."""
    return _MEDIA_KINDS.get(task)


def parse_response(task: str, response: RouterResponse) -> TaskOutput:
    """Parse a response.

    Raises:
        UnreadableResponse: it has no known format of its task.
    """
    if task in _MEDIA_KINDS and not response.is_json:
        return TaskOutput(media=[response.body])
    try:
        answer = response.json()
    except ValueError:
        beginning = shorten(response.body[:_MAX_SHOWN_BYTES].decode(errors="replace"), 100)
        form = response.media_type or "without a media type"
        raise UnreadableResponse(
            f"it is not JSON ({form}); it begins with {quote_value(beginning, 100)}"
        ) from None
    return parse_json(task, answer)


def parse_json(task: str, answer: Any) -> TaskOutput:
    """Parse a response that is JSON.

    Raises:
        UnreadableResponse: it has no known format of its task.
    """
    try:
        return _parse_output(task, answer)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        message = parse_error_message(answer) if isinstance(answer, dict) else ""
        problem = (
            f"with an error: {shorten(message, _MAX_ERROR_CHARS, keeps_end=True).removesuffix('.')}"
            if message
            else f"it is no answer of {task}"
        )
        raise UnreadableResponse(problem) from None


def _parse_output(task: str, answer: Any) -> TaskOutput:
    usage = _parse_usage(answer)
    if task == CHAT:
        result, files = chat_answers.parse_chat(answer)
        return TaskOutput({**result, **usage}, [], files, chat_answers.describe_unusable(result))
    if (kind := media_kind(task)) is not None:
        media = [_parse_media(item) for item in _find_media(answer)]
        return TaskOutput(usage, media, problem=None if media else f"no {kind}")
    result = {**_select_parser(task)(answer), **usage}
    return TaskOutput(result, problem=_describe_empty(task, result))


def _describe_empty(task: str, result: Mapping[str, Any]) -> str | None:
    """Say what a result lacks; a recording, or a picture, may well have no text in it."""
    if result.get("labels") == []:
        return "no labels"
    if task in _WRITING_TASKS and not str(result["text"]).strip():
        return "no text"
    return None


def _select_parser(task: str) -> Callable[[Any], dict[str, Any]]:
    if task == EMBEDDINGS:
        return _parse_embeddings
    return _parse_labels if task in _LABEL_TASKS else _parse_text


def _parse_usage(answer: Any) -> dict[str, Any]:
    match answer:
        case {"usage": {**usage}} if usage:
            return {"usage": usage}
        case _:
            return {}


def _parse_text(answer: Any) -> dict[str, Any]:
    match answer:
        case {"choices": [{"text": str() as text, **rest}, *_]}:
            return {"text": text, **_optional_field(rest, "finish_reason")}
        case {"output": output} if output:
            return _parse_text(output)
        case str() as text:
            return {"text": text}
        case [first, *_]:
            return _parse_text(first)
        case {"text": str() as text, "segments": [*segments]}:
            return {"text": text, "chunks": [_parse_chunk(segment) for segment in segments]}
        case _:
            text = next(answer[name] for name in _TEXT_FIELDS if isinstance(answer.get(name), str))
            return {"text": text, **_optional_field(answer, "chunks")}


def _parse_chunk(segment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "text": segment.get("text"),
        "timestamp": [segment.get("start"), segment.get("end")],
    }


def _parse_labels(answer: Any) -> dict[str, Any]:
    match answer:
        case {"labels": [*labels], "scores": [*scores]}:
            pairs = list(zip(labels, scores, strict=True))
        case [[*inner]]:
            return _parse_labels(inner)
        case _:
            pairs = [(entry["label"], entry["score"]) for entry in answer]
    pairs.sort(key=lambda pair: -float(pair[1]))
    return {"labels": [{"label": str(label), "score": float(score)} for label, score in pairs]}


def _parse_embeddings(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        entries = cast("list[dict[str, Any]]", answer["data"])
        answer = [entry["embedding"] for entry in entries]
    vectors = _EMBEDDINGS_ADAPTER.validate_python(answer, strict=True)
    # For one text some providers return its vector, and others a list of one vector.
    return {"embeddings": vectors if isinstance(vectors[0], list) else [vectors]}


def _find_media(answer: Any) -> list[Any]:
    """Find the media, in the formats of fal, OpenAI, replicate, wavespeed, novita and z.ai."""
    match answer:
        case {"images": [*items]} | {"data": [*items]} | {"image_result": [*items]}:
            return items
        case {"data": {"outputs": [*items]}} | {"output": [*items]}:
            return items
        case {"image": item} | {"video": item} | {"audio": item} | {"output": item}:
            return [item]
        case {"outputs": {"video_url": item}}:
            return [item]
        case _:
            raise LookupError


def _parse_media(item: Any) -> bytes | str:
    match item:
        case {"b64_json": str() as encoded}:
            return _decode_base64(encoded)
        case {"url": str() as url} | {"video_url": str() as url}:
            return _parse_media(url)
        case str() if lower_scheme(item).startswith(_DATA_URL_PREFIX):
            return _decode_base64(item.split(",", 1)[1])
        case str() if lower_scheme(item).startswith(("https://", "http://")):
            return item
        case _:
            raise LookupError


def _decode_base64(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError from None


def _optional_field(answer: Any, name: str) -> dict[str, Any]:
    return {name: answer[name]} if answer.get(name) else {}
