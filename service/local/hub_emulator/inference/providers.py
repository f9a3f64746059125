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

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.inference.chat import require_inference_access
from service.local.hub_emulator.inference.formats import (
    answer_bytes_task,
    answer_text_task,
    build_embeddings,
    build_fal_result,
    decode_base64,
    encode_base64,
    format_data_url,
    generate_media,
    generate_request_id,
    parse_object_field,
    parse_text,
    parse_texts,
    read_json_object,
    summarize_inputs,
)
from service.local.hub_emulator.inference.media import describe_bytes, make_mp4, make_png, make_wav
from service.local.hub_emulator.inference.models import FAKE_MODELS, FakeModel
from service.local.hub_emulator.users import LocalUser

_PROVIDER_ID_PREFIX: Final = "stand-in/"
_REPLICATE_PATH: Final = re.compile(r"v1/models/(?P<model>.+)/predictions")
_POLLS_UNTIL_DONE: Final = 2
"""How often a queue is looked at before it is done."""
_COLD_MODEL: Final = "local/cold"
_FAILING_MODEL: Final = "local/spoiler"
_BYTES_TASKS: Final = frozenset({"image-to-image", "image-to-text", "image-classification"})


class FakeProviders:
    """The providers behind the router, and what they have in their queues."""

    def __init__(self) -> None:
        self._poll_counts: dict[str, int] = {}
        self._queued_requests: dict[str, tuple[str, str]] = {}
        self._warmed_up_users: set[str] = set()

    async def call_hf_inference(self, request: Request, user: LocalUser) -> Response:
        """Answer as hf-inference does."""
        require_inference_access(request, user)
        path = request.path_params["path"].removeprefix("models/")
        name, stand_in = _find_model("hf-inference", path.split("/pipeline/")[0])
        if name == _COLD_MODEL and user.name not in self._warmed_up_users:
            self._warmed_up_users.add(user.name)
            loading = {"error": f"Model {name} is currently loading", "estimated_time": 1.0}
            return JSONResponse(loading, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        content = await request.body()
        if request.headers.get("content-type") != "application/json":
            return answer_bytes_task(stand_in.task, content, "")
        body = await read_json_object(request)
        inputs, parameters = body.get("inputs"), parse_object_field(body, "parameters")
        if stand_in.task in {"image-to-image", "image-to-text", "image-classification"}:
            return answer_bytes_task(
                stand_in.task, decode_base64(inputs), str(parameters.get("prompt", ""))
            )
        return answer_text_task(stand_in.task, inputs, parameters)

    async def call_fal(self, request: Request, user: LocalUser) -> Response:
        """Answer as fal does: at once, or with a place in a queue."""
        path = request.path_params["path"]
        if request.method == "GET":
            return self._poll_fal_queue(path)
        require_inference_access(request, user)
        name, stand_in = _find_model("fal-ai", path)
        body = await read_json_object(request)
        if stand_in.task == "automatic-speech-recognition":
            return JSONResponse({"text": describe_bytes(decode_base64(body.get("audio_url")))})
        asked = summarize_inputs(body, "prompt", "text", "image_url")
        if request.query_params.get("_subdomain") != "queue":
            return JSONResponse(build_fal_result(stand_in.task, asked))
        ticket = generate_request_id(name, asked)
        self._queued_requests[ticket] = (name, asked)
        place = f"https://queue.fal.run/{path}/requests/{ticket}"
        return JSONResponse({"request_id": ticket, "status": "IN_QUEUE", "response_url": place})

    def _poll_fal_queue(self, path: str) -> Response:
        ticket = path.removesuffix("/status").rsplit("/", 1)[-1]
        name, asked = self._queued_requests.get(ticket) or _raise_not_found()
        if not path.endswith("/status"):
            if name == _FAILING_MODEL:
                spoilt = {"detail": [{"msg": "The stand-in was asked to fail"}]}
                return JSONResponse(spoilt, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
            return JSONResponse(build_fal_result(FAKE_MODELS[name].task, asked))
        if self._is_done(ticket):
            return JSONResponse({"status": "COMPLETED", "request_id": ticket})
        return JSONResponse({"status": "IN_QUEUE", "queue_position": 0, "request_id": ticket})

    async def call_openai_compatible(
        self, provider: str, request: Request, user: LocalUser
    ) -> Response:
        """Answer as those do that have taken OpenAI's form over."""
        path = request.path_params["path"]
        if request.method == "GET":
            return self._poll_video(path)
        require_inference_access(request, user)
        if path.endswith("audio/transcriptions"):
            async with request.form() as form:
                _find_model(provider, str(form["model"]))
                file: Any = form["file"]
                return JSONResponse({"text": describe_bytes(await file.read())})
        return self._answer_openai_task(provider, path, await read_json_object(request))

    def _answer_openai_task(self, provider: str, path: str, body: dict[str, Any]) -> Response:
        name, _ = _find_model(provider, str(body.get("model")))
        match path.rsplit("/", 1)[-1]:
            case "embeddings":
                return JSONResponse(build_embeddings(name, parse_texts(body.get("input"))))
            case "completions":
                text = f"{parse_text(body.get('prompt'))}, and so on"
                choice = {"text": text, "finish_reason": "length"}
                return JSONResponse({"choices": [choice], "usage": {"total_tokens": 7}})
            case "speech":
                return Response(make_wav(parse_text(body.get("input"))), media_type="audio/wav")
            case "generations":
                asked = summarize_inputs(body, "prompt", "image_url", "reference_images")
                return JSONResponse({"data": [{"b64_json": encode_base64(make_png(asked))}]})
            case "videos":
                asked = summarize_inputs(body, "prompt", "frame_images")
                self._queued_requests[ticket := generate_request_id(name, asked)] = (name, asked)
                return JSONResponse({"id": ticket, "status": "queued"})
            case _:
                raise HubApiError(HTTPStatus.NOT_FOUND, f"{provider} has no {path}")

    def _poll_video(self, path: str) -> Response:
        ticket = path.rsplit("/", 1)[-1]
        name, asked = self._queued_requests.get(ticket) or _raise_not_found()
        if not self._is_done(ticket):
            return JSONResponse({"id": ticket, "status": "in_progress"})
        if name == _FAILING_MODEL:
            spoilt = {"message": "The stand-in was asked to fail"}
            return JSONResponse({"id": ticket, "status": "failed", "error": spoilt})
        made = {"video_url": format_data_url("video/mp4", make_mp4(asked))}
        return JSONResponse({"id": ticket, "status": "completed", "outputs": made})

    def _is_done(self, request_id: str) -> bool:
        self._poll_counts[request_id] = self._poll_counts.get(request_id, 0) + 1
        return self._poll_counts[request_id] >= _POLLS_UNTIL_DONE

    async def call_replicate(self, request: Request, user: LocalUser) -> Response:
        """Answer as replicate does to those who wait."""
        require_inference_access(request, user)
        path = _REPLICATE_PATH.fullmatch(request.path_params["path"]) or _raise_not_found()
        _, stand_in = _find_model("replicate", path["model"])
        given = parse_object_field(await read_json_object(request), "input")
        if stand_in.task == "automatic-speech-recognition":
            output: Any = {"transcription": describe_bytes(decode_base64(given.get("audio")))}
        else:
            asked = summarize_inputs(given, "prompt", "text", "image")
            output = [format_data_url(*generate_media(stand_in.task, asked))]
        return JSONResponse({"id": "p", "status": "succeeded", "output": output})


def _find_model(provider: str, model: str) -> tuple[str, FakeModel]:
    """Find the model that a provider knows under a name."""
    name = model.removeprefix(_PROVIDER_ID_PREFIX)
    stand_in = FAKE_MODELS.get(name)
    if stand_in is None or provider not in stand_in.providers:
        raise HubApiError(HTTPStatus.NOT_FOUND, f"Model {model} not found at {provider}")
    return name, stand_in


def _raise_not_found() -> NoReturn:
    raise HubApiError(HTTPStatus.NOT_FOUND, "Not found")
