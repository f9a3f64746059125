"""The parts of which providers' requests and answers are made."""

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

from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.inference.media import film, heard, picture, sound

T = TypeVar("T")

_DIMENSIONS: Final = 8
_SAID: Final[Mapping[str, Callable[[str], dict[str, str]]]] = {
    "text-generation": lambda text: {"generated_text": f"{text}, and so on"},
    "summarization": lambda text: {"summary_text": f"In short: {text}"},
    "translation": lambda text: {"translation_text": f"En bref : {text}"},
}
_DATA: Final = re.compile(r"data:[\w/+.-]*;base64,")
_OBJECT: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])
_TEXT: Final[TypeAdapter[str]] = TypeAdapter(str)
_TEXTS: Final[TypeAdapter[str | list[str]]] = TypeAdapter(str | list[str])
_LABELS: Final[TypeAdapter[list[str]]] = TypeAdapter(list[str])


async def json_of(request: Request) -> dict[str, Any]:
    """Read a body that is an object."""
    try:
        return _read(_OBJECT, json.loads(await request.body()))
    except ValueError:
        raise _unfit("body") from None


def words(given: Any) -> str:
    """Read a text."""
    return _read(_TEXT, given)


def texts(given: Any) -> list[str]:
    """Read one text or several."""
    read = _read(_TEXTS, given)
    return [read] if isinstance(read, str) else read


def decoded(given: Any) -> bytes:
    """Read bytes in base 64, alone or in a `data:` address."""
    try:
        return base64.b64decode(_DATA.sub("", words(given), count=1), validate=True)
    except binascii.Error:
        raise _unfit("base 64") from None


def encoded(content: bytes) -> str:
    """Write bytes in base 64."""
    return base64.b64encode(content).decode()


def address(media_type: str, content: bytes) -> str:
    """Write bytes as a `data:` address."""
    return f"data:{media_type};base64,{encoded(content)}"


def about(body: dict[str, Any], *names: str) -> str:
    """Say what was asked for: words as they are, of files which bytes they are."""
    said = [_gist(body[name]) for name in names if body.get(name)]
    if not said:
        raise _unfit(names[0])
    return ", ".join(said)


def _gist(given: Any) -> str:
    match given:
        case [first, *_]:
            return _gist(first)
        case {"input_image": image}:
            return _gist(image)
        case _:
            text = words(given)
            return heard(decoded(text)) if _DATA.match(text) else text


def inside(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Read an object in it, which may be left out."""
    return _read(_OBJECT, body.get(name) or {})


def ticket_of(name: str, asked: str) -> str:
    """Give a number that nobody else has."""
    return hashlib.sha256(f"{name} {asked} {uuid4()}".encode()).hexdigest()[:24]


def made(task: str, asked: str) -> tuple[str, bytes]:
    """Make what a task makes."""
    if task.endswith("video"):
        return "video/mp4", film(asked)
    if task == "text-to-speech":
        return "audio/wav", sound(asked)
    return "image/png", picture(asked)


def fal(task: str, asked: str) -> dict[str, Any]:
    """Write an answer of fal's."""
    made_of = {"url": address(*made(task, asked))}
    if task.endswith("video"):
        return {"video": made_of}
    return {"audio": made_of} if task == "text-to-speech" else {"images": [made_of], "seed": 1}


def from_words(task: str, given: Any, parameters: dict[str, Any]) -> Response:
    """Answer as hf-inference answers to a text."""
    if task == "feature-extraction":
        vectors = [vector(text) for text in texts(given)]
        return JSONResponse(vectors if isinstance(given, list) else vectors[0])
    text = words(given)
    if task in {"text-to-image", "text-to-speech"}:
        media_type, content = made(task, text)
        return Response(content, media_type=media_type)
    if task == "zero-shot-classification":
        return JSONResponse(_scores(_read(_LABELS, parameters.get("candidate_labels"))))
    if task == "text-classification":
        return JSONResponse([_scores(["POSITIVE", "NEGATIVE"])])
    return JSONResponse([_SAID[task](text)])


def from_bytes(task: str, content: bytes, prompt: str) -> Response:
    """Answer as hf-inference answers to bytes."""
    match task:
        case "automatic-speech-recognition":
            return JSONResponse({"text": heard(content)})
        case "image-to-text":
            return JSONResponse([{"generated_text": heard(content)}])
        case "image-classification":
            return JSONResponse(_scores([heard(content), "something else"]))
        case _:
            asked = f"{prompt}, {heard(content)}"
            return Response(picture(asked), media_type="image/png")


def embeddings(name: str, given: list[str]) -> dict[str, Any]:
    """Answer as OpenAI answers to texts."""
    entries = [
        {"object": "embedding", "index": place, "embedding": vector(text)}
        for place, text in enumerate(given)
    ]
    counted = sum(len(text.split()) for text in given)
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    return {"object": "list", "model": name, "data": entries, "usage": usage}


def vector(text: str) -> list[float]:
    """Make numbers of a text, the same for the same one."""
    digest = hashlib.sha256(text.encode()).digest()
    return [round(math.sin(byte), 6) for byte in digest[:_DIMENSIONS]]


def _scores(labels: list[str]) -> list[dict[str, Any]]:
    return [
        {"label": label, "score": round(0.9 / (place + 1), 3)} for place, label in enumerate(labels)
    ]


def _read(shape: TypeAdapter[T], given: Any) -> T:
    try:
        return shape.validate_python(given, strict=True)
    except ValidationError:
        raise _unfit("inputs") from None


def _unfit(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"{what}: not what this takes")
