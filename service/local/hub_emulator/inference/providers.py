"""What the router passes on to one provider, in that provider's own form, for every other task.

    /hf-inference/models/{id}          texts as JSON, bytes as they are
    /fal-ai/{id}                       at once, or in a queue (`?_subdomain=queue`)
    /together, /deepinfra, /scaleway, /nscale      as OpenAI has it; films in a queue
    /replicate/v1/models/{id}/predictions

Files are answered as `data:` addresses where a provider gives those of its own machines: nothing on
this one is public, and nobody's fetcher is to be made to reach it.
"""

import re
from http import HTTPStatus
from typing import Any, Final, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.inference.chat import expect_paid
from service.local.hub_emulator.inference.formats import (
    about,
    address,
    decoded,
    embeddings,
    encoded,
    fal,
    from_bytes,
    from_words,
    inside,
    json_of,
    made,
    texts,
    ticket_of,
    words,
)
from service.local.hub_emulator.inference.media import film, heard, picture, sound
from service.local.hub_emulator.inference.models import STAND_INS, StandIn
from service.local.hub_emulator.users import LocalUser

_PREFIX: Final = "stand-in/"
_OF_REPLICATE: Final = re.compile(r"v1/models/(?P<model>.+)/predictions")
_LOOKS: Final = 2
"""How often a queue is looked at before it is done."""
_COLD: Final = "local/cold"
_SPOILER: Final = "local/spoiler"
_FROM_BYTES: Final = frozenset({"image-to-image", "image-to-text", "image-classification"})


class Providers:
    """The providers behind the router, and what they have in their queues."""

    def __init__(self) -> None:
        self._looked: dict[str, int] = {}
        self._queued: dict[str, tuple[str, str]] = {}
        self._warmed: set[str] = set()

    async def hf_inference(self, request: Request, user: LocalUser) -> Response:
        """Answer as hf-inference does."""
        expect_paid(request, user)
        path = request.path_params["path"].removeprefix("models/")
        name, stand_in = _offered("hf-inference", path.split("/pipeline/")[0])
        if name == _COLD and user.name not in self._warmed:
            self._warmed.add(user.name)
            loading = {"error": f"Model {name} is currently loading", "estimated_time": 1.0}
            return JSONResponse(loading, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        content = await request.body()
        if request.headers.get("content-type") != "application/json":
            return from_bytes(stand_in.task, content, "")
        body = await json_of(request)
        inputs, parameters = body.get("inputs"), inside(body, "parameters")
        if stand_in.task in {"image-to-image", "image-to-text", "image-classification"}:
            return from_bytes(stand_in.task, decoded(inputs), str(parameters.get("prompt", "")))
        return from_words(stand_in.task, inputs, parameters)

    async def fal(self, request: Request, user: LocalUser) -> Response:
        """Answer as fal does: at once, or with a place in a queue."""
        path = request.path_params["path"]
        if request.method == "GET":
            return self._fal_queue(path)
        expect_paid(request, user)
        name, stand_in = _offered("fal-ai", path)
        body = await json_of(request)
        if stand_in.task == "automatic-speech-recognition":
            return JSONResponse({"text": heard(decoded(body.get("audio_url")))})
        asked = about(body, "prompt", "text", "image_url")
        if request.query_params.get("_subdomain") != "queue":
            return JSONResponse(fal(stand_in.task, asked))
        ticket = ticket_of(name, asked)
        self._queued[ticket] = (name, asked)
        place = f"https://queue.fal.run/{path}/requests/{ticket}"
        return JSONResponse({"request_id": ticket, "status": "IN_QUEUE", "response_url": place})

    def _fal_queue(self, path: str) -> Response:
        ticket = path.removesuffix("/status").rsplit("/", 1)[-1]
        name, asked = self._queued.get(ticket) or _unknown()
        if not path.endswith("/status"):
            if name == _SPOILER:
                spoilt = {"detail": [{"msg": "The stand-in was asked to fail"}]}
                return JSONResponse(spoilt, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
            return JSONResponse(fal(STAND_INS[name].task, asked))
        if self._is_done(ticket):
            return JSONResponse({"status": "COMPLETED", "request_id": ticket})
        return JSONResponse({"status": "IN_QUEUE", "queue_position": 0, "request_id": ticket})

    async def openai(self, provider: str, request: Request, user: LocalUser) -> Response:
        """Answer as those do that have taken OpenAI's form over."""
        path = request.path_params["path"]
        if request.method == "GET":
            return self._films(path)
        expect_paid(request, user)
        if path.endswith("audio/transcriptions"):
            async with request.form() as form:
                _offered(provider, str(form["model"]))
                file: Any = form["file"]
                return JSONResponse({"text": heard(await file.read())})
        return self._openai(provider, path, await json_of(request))

    def _openai(self, provider: str, path: str, body: dict[str, Any]) -> Response:
        name, _ = _offered(provider, str(body.get("model")))
        match path.rsplit("/", 1)[-1]:
            case "embeddings":
                return JSONResponse(embeddings(name, texts(body.get("input"))))
            case "completions":
                text = f"{words(body.get('prompt'))}, and so on"
                choice = {"text": text, "finish_reason": "length"}
                return JSONResponse({"choices": [choice], "usage": {"total_tokens": 7}})
            case "speech":
                return Response(sound(words(body.get("input"))), media_type="audio/wav")
            case "generations":
                asked = about(body, "prompt", "image_url", "reference_images")
                return JSONResponse({"data": [{"b64_json": encoded(picture(asked))}]})
            case "videos":
                asked = about(body, "prompt", "frame_images")
                self._queued[ticket := ticket_of(name, asked)] = (name, asked)
                return JSONResponse({"id": ticket, "status": "queued"})
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, f"{provider} has no {path}")

    def _films(self, path: str) -> Response:
        ticket = path.rsplit("/", 1)[-1]
        name, asked = self._queued.get(ticket) or _unknown()
        if not self._is_done(ticket):
            return JSONResponse({"id": ticket, "status": "in_progress"})
        if name == _SPOILER:
            spoilt = {"message": "The stand-in was asked to fail"}
            return JSONResponse({"id": ticket, "status": "failed", "error": spoilt})
        made = {"video_url": address("video/mp4", film(asked))}
        return JSONResponse({"id": ticket, "status": "completed", "outputs": made})

    def _is_done(self, ticket: str) -> bool:
        self._looked[ticket] = self._looked.get(ticket, 0) + 1
        return self._looked[ticket] >= _LOOKS

    async def replicate(self, request: Request, user: LocalUser) -> Response:
        """Answer as replicate does to those who wait."""
        expect_paid(request, user)
        path = _OF_REPLICATE.fullmatch(request.path_params["path"]) or _unknown()
        _, stand_in = _offered("replicate", path["model"])
        given = inside(await json_of(request), "input")
        if stand_in.task == "automatic-speech-recognition":
            output: Any = {"transcription": heard(decoded(given.get("audio")))}
        else:
            asked = about(given, "prompt", "text", "image")
            output = [address(*made(stand_in.task, asked))]
        return JSONResponse({"id": "p", "status": "succeeded", "output": output})


def _offered(provider: str, model: str) -> tuple[str, StandIn]:
    """Find the model that a provider knows under a name."""
    name = model.removeprefix(_PREFIX)
    stand_in = STAND_INS.get(name)
    if stand_in is None or provider not in stand_in.providers:
        raise Refusal(HTTPStatus.NOT_FOUND, f"Model {model} not found at {provider}")
    return name, stand_in


def _unknown() -> NoReturn:
    raise Refusal(HTTPStatus.NOT_FOUND, "Not found")
