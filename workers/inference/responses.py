"""What a provider's answer says, in one shape for each task, whoever gave it.

text         chat-completion, text-generation, summarization, translation, image-to-text,
             automatic-speech-recognition (with `chunks`, where it has them)
labels       text-, zero-shot- and image-classification: label and score, the likeliest first
embeddings   feature-extraction: one for each text
made         everything that makes a picture, a sound or a film: bytes, or where they are
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, cast

from pydantic import Field, TypeAdapter

from schema.specs.inference import CHAT, EMBEDDINGS
from workers.inference.router import Received

_MAKES: Final = {
    "text-to-image": "image",
    "image-to-image": "image",
    "text-to-video": "video",
    "image-to-video": "video",
    "text-to-speech": "audio",
}
_LABELS: Final = frozenset(
    {"text-classification", "zero-shot-classification", "image-classification"}
)
_WORDS: Final = (
    "generated_text",
    "summary_text",
    "translation_text",
    "text",
    "transcription",
    "translation",
)
_DATA: Final = "data:"
_Vector = Annotated[list[float | None], Field(min_length=1)]
_Vectors = Annotated[list[_Vector], Field(min_length=1)]
_EMBEDDINGS: Final[TypeAdapter[_Vector | _Vectors | list[_Vectors]]] = TypeAdapter(
    _Vector | _Vectors | Annotated[list[_Vectors], Field(min_length=1)]
)
"""Of one text, of several; or of each part of each, where a model does not join them."""


class Unreadable(Exception):
    """An answer that is none of those its task is known to have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    said: dict[str, Any] = field(default_factory=dict[str, Any])
    """What becomes part of the result."""
    made: list[bytes | str] = field(default_factory=list["bytes | str"])
    """What becomes files; a text is the address one is to be fetched from."""


def makes(task: str) -> str | None:
    """Return the kind of file a task makes, if it makes one."""
    return _MAKES.get(task)


def read(task: str, received: Received) -> Answer:
    """Read an answer.

    Raises:
        Unreadable: it is not one.
    """
    if task in _MAKES and not received.is_json:
        return Answer(made=[received.body])
    try:
        return read_json(task, received.json())
    except ValueError:
        raise Unreadable("it is not JSON") from None


def read_json(task: str, answer: Any) -> Answer:
    """Read an answer that is JSON.

    Raises:
        Unreadable: it is not one of its task.
    """
    try:
        if task in _MAKES:
            return Answer(_usage(answer), [_file(each) for each in _made(answer)])
        return Answer({**_reader(task)(answer), **_usage(answer)})
    except (LookupError, TypeError, AttributeError, ValueError):
        raise Unreadable(f"it is no answer of {task}") from None


def _reader(task: str) -> Callable[[Any], dict[str, Any]]:
    if task == CHAT:
        return _chat
    if task == EMBEDDINGS:
        return _embeddings
    return _labels if task in _LABELS else _text


def _usage(answer: Any) -> dict[str, Any]:
    match answer:
        case {"usage": {**counted}} if counted:
            return {"usage": counted}
        case _:
            return {}


def _chat(answer: Any) -> dict[str, Any]:
    choice = answer["choices"][0]
    message = choice["message"]
    text = message.get("content")
    if not isinstance(text, str | None):
        raise TypeError
    return {
        "text": text,
        "finish_reason": choice.get("finish_reason"),
        **_given(message, "tool_calls"),
        **({"model": model} if isinstance(model := answer.get("model"), str) else {}),
    }


def _text(answer: Any) -> dict[str, Any]:
    match answer:
        case {"choices": [{"text": str() as text, **rest}, *_]}:
            return {"text": text, **_given(rest, "finish_reason")}
        case {"output": output} if output:
            return _text(output)
        case str() as text:
            return {"text": text}
        case [first, *_]:
            return _text(first)
        case {"text": str() as text, "segments": [*segments]}:
            return {"text": text, "chunks": [_chunk(each) for each in segments]}
        case _:
            text = next(answer[name] for name in _WORDS if isinstance(answer.get(name), str))
            return {"text": text, **_given(answer, "chunks")}


def _chunk(segment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "text": segment.get("text"),
        "timestamp": [segment.get("start"), segment.get("end")],
    }


def _labels(answer: Any) -> dict[str, Any]:
    match answer:
        case {"labels": [*labels], "scores": [*scores]}:
            found = list(zip(labels, scores, strict=True))
        case [[*inner]]:
            return _labels(inner)
        case _:
            found = [(each["label"], each["score"]) for each in answer]
    found.sort(key=lambda each: -float(each[1]))
    return {"labels": [{"label": str(label), "score": float(score)} for label, score in found]}


def _embeddings(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        entries = cast("list[dict[str, Any]]", answer["data"])
        answer = [entry["embedding"] for entry in entries]
    vectors = _EMBEDDINGS.validate_python(answer, strict=True)
    # Of one text some give the numbers, and others a list of one.
    return {"embeddings": vectors if isinstance(vectors[0], list) else [vectors]}


def _made(answer: Any) -> list[Any]:
    """Find what was made, in the forms of fal, OpenAI, replicate, wavespeed, novita and z.ai."""
    match answer:
        case {"images": [*several]} | {"data": [*several]} | {"image_result": [*several]}:
            return several
        case {"data": {"outputs": [*several]}} | {"output": [*several]}:
            return several
        case {"image": one} | {"video": one} | {"audio": one} | {"output": one}:
            return [one]
        case {"outputs": {"video_url": one}}:
            return [one]
        case _:
            raise LookupError


def _file(made: Any) -> bytes | str:
    match made:
        case {"b64_json": str() as encoded}:
            return _decoded(encoded)
        case {"url": str() as address} | {"video_url": str() as address}:
            return _file(address)
        case str() if made.startswith(_DATA):
            return _decoded(made.split(",", 1)[1])
        case str() if made.startswith(("https://", "http://")):
            return made
        case _:
            raise LookupError


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError from None


def _given(answer: Any, name: str) -> dict[str, Any]:
    return {name: answer[name]} if answer.get(name) else {}
