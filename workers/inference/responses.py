"""Parser of providers' responses: one shape of output for each task, whatever the provider.

text         chat-completion, text-generation, summarization, translation, image-to-text,
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

from schema.specs.inference import CHAT, EMBEDDINGS
from workers.inference.router import RouterResponse

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
        return parse_json(task, response.json())
    except ValueError:
        raise UnreadableResponse("it is not JSON") from None


def parse_json(task: str, answer: Any) -> TaskOutput:
    """Parse a response that is JSON.

    Raises:
        UnreadableResponse: it has no known format of its task.
    """
    try:
        if task in _MEDIA_KINDS:
            return TaskOutput(
                _parse_usage(answer), [_parse_media(item) for item in _find_media(answer)]
            )
        return TaskOutput({**_select_parser(task)(answer), **_parse_usage(answer)})
    except (LookupError, TypeError, AttributeError, ValueError):
        raise UnreadableResponse(f"it is no answer of {task}") from None


def _select_parser(task: str) -> Callable[[Any], dict[str, Any]]:
    if task == CHAT:
        return _parse_chat
    if task == EMBEDDINGS:
        return _parse_embeddings
    return _parse_labels if task in _LABEL_TASKS else _parse_text


def _parse_usage(answer: Any) -> dict[str, Any]:
    match answer:
        case {"usage": {**usage}} if usage:
            return {"usage": usage}
        case _:
            return {}


def _parse_chat(answer: Any) -> dict[str, Any]:
    choice = answer["choices"][0]
    message = choice["message"]
    text = message.get("content")
    if not isinstance(text, str | None):
        raise TypeError
    return {
        "text": text,
        "finish_reason": choice.get("finish_reason"),
        **_optional_field(message, "tool_calls"),
        **({"model": model} if isinstance(model := answer.get("model"), str) else {}),
    }


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
        case str() if item.startswith(_DATA_URL_PREFIX):
            return _decode_base64(item.split(",", 1)[1])
        case str() if item.startswith(("https://", "http://")):
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
