"""Parsers and builders for the parts of the providers' requests and answers."""

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.inference.media import describe_bytes, make_mp4, make_png, make_wav

T = TypeVar("T")

_VECTOR_DIMENSIONS: Final = 8
_TEXT_RESULTS: Final[Mapping[str, Callable[[str], dict[str, str]]]] = {
    "text-generation": lambda text: {"generated_text": f"{text}, and so on"},
    "summarization": lambda text: {"summary_text": f"In short: {text}"},
    "translation": lambda text: {"translation_text": f"En bref : {text}"},
}
_DATA_URL_PREFIX: Final = re.compile(r"data:[\w/+.-]*;base64,")
_OBJECT_ADAPTER: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])
_TEXT_ADAPTER: Final[TypeAdapter[str]] = TypeAdapter(str)
_TEXTS_ADAPTER: Final[TypeAdapter[str | list[str]]] = TypeAdapter(str | list[str])
_LABELS_ADAPTER: Final[TypeAdapter[list[str]]] = TypeAdapter(list[str])


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read a body that must be a JSON object."""
    try:
        return _validate(_OBJECT_ADAPTER, json.loads(await request.body()))
    except ValueError:
        raise _invalid_input_error("body") from None


def parse_text(value: Any) -> str:
    """Check that a value is a text."""
    return _validate(_TEXT_ADAPTER, value)


def parse_texts(value: Any) -> list[str]:
    """Return one text or several as a list."""
    texts = _validate(_TEXTS_ADAPTER, value)
    return [texts] if isinstance(texts, str) else texts


def decode_base64(value: Any) -> bytes:
    """Decode bytes from base64, alone or in a `data:` URL."""
    try:
        return base64.b64decode(_DATA_URL_PREFIX.sub("", parse_text(value), count=1), validate=True)
    except binascii.Error:
        raise _invalid_input_error("base 64") from None


def encode_base64(content: bytes) -> str:
    """Encode bytes as base64."""
    return base64.b64encode(content).decode()


def format_data_url(media_type: str, content: bytes) -> str:
    """Encode bytes as a `data:` URL."""
    return f"data:{media_type};base64,{encode_base64(content)}"


def summarize_inputs(body: dict[str, Any], *names: str) -> str:
    """Describe the inputs of a request: texts as they are, files by their size and digest.

    Args:
        body: the request.
        names: the fields that may hold inputs; at least one must.
    """
    summaries = [_summarize_input(body[name]) for name in names if body.get(name)]
    if not summaries:
        raise _invalid_input_error(names[0])
    return ", ".join(summaries)


def _summarize_input(value: Any) -> str:
    match value:
        case [first, *_]:
            return _summarize_input(first)
        case {"input_image": image}:
            return _summarize_input(image)
        case _:
            text = parse_text(value)
            return describe_bytes(decode_base64(text)) if _DATA_URL_PREFIX.match(text) else text


def parse_object_field(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside a body; empty if it is left out."""
    return _validate(_OBJECT_ADAPTER, body.get(name) or {})


def generate_request_id(model_name: str, prompt: str) -> str:
    """Return an id that no other request has."""
    return hashlib.sha256(f"{model_name} {prompt} {uuid4()}".encode()).hexdigest()[:24]


def generate_media(task: str, prompt: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a task's result."""
    if task.endswith("video"):
        return "video/mp4", make_mp4(prompt)
    if task == "text-to-speech":
        return "audio/wav", make_wav(prompt)
    return "image/png", make_png(prompt)


def build_fal_result(task: str, prompt: str) -> dict[str, Any]:
    """Build the result of a task in fal's form."""
    file = {"url": format_data_url(*generate_media(task, prompt))}
    if task.endswith("video"):
        return {"video": file}
    return {"audio": file} if task == "text-to-speech" else {"images": [file], "seed": 1}


def answer_text_task(task: str, inputs: Any, parameters: dict[str, Any]) -> Response:
    """Answer a task that takes text in the form of hf-inference."""
    if task == "feature-extraction":
        vectors = [embed_text(text) for text in parse_texts(inputs)]
        return JSONResponse(vectors if isinstance(inputs, list) else vectors[0])
    text = parse_text(inputs)
    if task in {"text-to-image", "text-to-speech"}:
        media_type, content = generate_media(task, text)
        return Response(content, media_type=media_type)
    if task == "zero-shot-classification":
        return JSONResponse(
            _score_labels(_validate(_LABELS_ADAPTER, parameters.get("candidate_labels")))
        )
    if task == "text-classification":
        return JSONResponse([_score_labels(["POSITIVE", "NEGATIVE"])])
    return JSONResponse([_TEXT_RESULTS[task](text)])


def answer_bytes_task(task: str, content: bytes, prompt: str) -> Response:
    """Answer a task that takes bytes in the form of hf-inference."""
    match task:
        case "automatic-speech-recognition":
            return JSONResponse({"text": describe_bytes(content)})
        case "image-to-text":
            return JSONResponse([{"generated_text": describe_bytes(content)}])
        case "image-classification":
            return JSONResponse(_score_labels([describe_bytes(content), "something else"]))
        case _:
            comment = f"{prompt}, {describe_bytes(content)}"
            return Response(make_png(comment), media_type="image/png")


def build_embeddings(model_name: str, inputs: list[str]) -> dict[str, Any]:
    """Build the embeddings of texts in the form of OpenAI."""
    entries = [
        {"object": "embedding", "index": index, "embedding": embed_text(text)}
        for index, text in enumerate(inputs)
    ]
    tokens = sum(len(text.split()) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model_name, "data": entries, "usage": usage}


def embed_text(text: str) -> list[float]:
    """Return a vector that is the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [round(math.sin(byte), 6) for byte in digest[:_VECTOR_DIMENSIONS]]


def _score_labels(labels: list[str]) -> list[dict[str, Any]]:
    return [
        {"label": label, "score": round(0.9 / (rank + 1), 3)} for rank, label in enumerate(labels)
    ]


def _validate(adapter: TypeAdapter[T], value: Any) -> T:
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError:
        raise _invalid_input_error("inputs") from None


def _invalid_input_error(name: str) -> HubApiError:
    return HubApiError(HTTPStatus.BAD_REQUEST, f"{name}: not what this takes")
