"""The providers behind the router, each in its own form, for all tasks but chat.

    /hf-inference/models/{id}          texts as JSON, bytes as they are
    /fal-ai/{id}                       at once, or in a queue (`?_subdomain=queue`)
    /together, /deepinfra, /scaleway, /nscale      in the form of OpenAI; videos in a queue
    /replicate/v1/models/{id}/predictions

Where a real provider answers with URLs of its own servers, this one answers with `data:` URLs:
nothing on this machine is public, and no fetcher of a client should be led to it.
"""

import re
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.current_user import with_current_user
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
"""The number of polls at which a queued request is done."""
_COLD_MODEL: Final = "local/cold"
_FAILING_MODEL: Final = "local/spoiler"
_BYTES_TASKS: Final = frozenset({"image-to-image", "image-to-text", "image-classification"})


class FakeProviders:
    """The endpoints of the providers, and the requests in their queues."""

    def __init__(self) -> None:
        self._poll_counts: dict[str, int] = {}
        self._queued_requests: dict[str, tuple[str, str]] = {}
        """For each request id the name of the model, and the summary of its inputs."""
        self._warmed_up_users: set[str] = set()

    def routes(self) -> list[Route]:
        """Return the routes; the Hub has given the providers these names."""
        post, get_and_post = ["POST"], ["GET", "POST"]
        endpoints = {
            "hf-inference": (self.call_hf_inference, post),
            "fal-ai": (self.call_fal, get_and_post),
            "replicate": (self.call_replicate, post),
        } | {
            provider: (partial(self.call_openai_compatible, provider), get_and_post)
            for provider in ("together", "deepinfra", "scaleway", "nscale")
        }
        return [
            Route(f"/{provider}/{{path:path}}", with_current_user(endpoint), methods=methods)
            for provider, (endpoint, methods) in endpoints.items()
        ]

    async def call_hf_inference(self, request: Request, user: LocalUser) -> Response:
        """Answer in the form of hf-inference."""
        require_inference_access(request, user)
        path = request.path_params["path"].removeprefix("models/")
        name, model = _find_model("hf-inference", path.split("/pipeline/")[0])
        if name == _COLD_MODEL and user.name not in self._warmed_up_users:
            self._warmed_up_users.add(user.name)
            loading = {"error": f"Model {name} is currently loading", "estimated_time": 1.0}
            return JSONResponse(loading, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        content = await request.body()
        if request.headers.get("content-type") != "application/json":
            return answer_bytes_task(model.task, content, "")
        body = await read_json_object(request)
        inputs, parameters = body.get("inputs"), parse_object_field(body, "parameters")
        if model.task in _BYTES_TASKS:
            return answer_bytes_task(
                model.task, decode_base64(inputs), str(parameters.get("prompt", ""))
            )
        return answer_text_task(model.task, inputs, parameters)

    async def call_fal(self, request: Request, user: LocalUser) -> Response:
        """Answer in the form of fal: at once, or with a place in its queue."""
        path = request.path_params["path"]
        if request.method == "GET":
            return self._poll_fal_queue(path)
        require_inference_access(request, user)
        name, model = _find_model("fal-ai", path)
        body = await read_json_object(request)
        if model.task == "automatic-speech-recognition":
            return JSONResponse({"text": describe_bytes(decode_base64(body.get("audio_url")))})
        summary = summarize_inputs(body, "prompt", "text", "image_url")
        if request.query_params.get("_subdomain") != "queue":
            return JSONResponse(build_fal_result(model.task, summary))
        request_id = self._enqueue(name, summary)
        url = f"https://queue.fal.run/{path}/requests/{request_id}"
        return JSONResponse({"request_id": request_id, "status": "IN_QUEUE", "response_url": url})

    def _poll_fal_queue(self, path: str) -> Response:
        request_id = path.removesuffix("/status").rsplit("/", 1)[-1]
        name, summary = self._queued_requests.get(request_id) or _raise_not_found()
        if not path.endswith("/status"):
            if name == _FAILING_MODEL:
                failure = {"detail": [{"msg": "The stand-in was asked to fail"}]}
                return JSONResponse(failure, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
            return JSONResponse(build_fal_result(FAKE_MODELS[name].task, summary))
        if self._count_poll(request_id) >= _POLLS_UNTIL_DONE:
            return JSONResponse({"status": "COMPLETED", "request_id": request_id})
        return JSONResponse({"status": "IN_QUEUE", "queue_position": 0, "request_id": request_id})

    async def call_openai_compatible(
        self, provider: str, request: Request, user: LocalUser
    ) -> Response:
        """Answer in the form of OpenAI, which several providers use."""
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
                summary = summarize_inputs(body, "prompt", "image_url", "reference_images")
                return JSONResponse({"data": [{"b64_json": encode_base64(make_png(summary))}]})
            case "videos":
                request_id = self._enqueue(name, summarize_inputs(body, "prompt", "frame_images"))
                return JSONResponse({"id": request_id, "status": "queued"})
            case _:
                raise HubApiError(HTTPStatus.NOT_FOUND, f"{provider} has no {path}")

    def _poll_video(self, path: str) -> Response:
        request_id = path.rsplit("/", 1)[-1]
        name, summary = self._queued_requests.get(request_id) or _raise_not_found()
        if self._count_poll(request_id) < _POLLS_UNTIL_DONE:
            return JSONResponse({"id": request_id, "status": "in_progress"})
        if name == _FAILING_MODEL:
            failure = {"message": "The stand-in was asked to fail"}
            return JSONResponse({"id": request_id, "status": "failed", "error": failure})
        outputs = {"video_url": format_data_url("video/mp4", make_mp4(summary))}
        return JSONResponse({"id": request_id, "status": "completed", "outputs": outputs})

    def _enqueue(self, model_name: str, summary: str) -> str:
        request_id = generate_request_id(model_name, summary)
        self._queued_requests[request_id] = (model_name, summary)
        return request_id

    def _count_poll(self, request_id: str) -> int:
        """Count a poll of a queued request, and return how many there have been."""
        self._poll_counts[request_id] = self._poll_counts.get(request_id, 0) + 1
        return self._poll_counts[request_id]

    async def call_replicate(self, request: Request, user: LocalUser) -> Response:
        """Answer in the form of replicate, to clients that wait for the result."""
        require_inference_access(request, user)
        match = _REPLICATE_PATH.fullmatch(request.path_params["path"]) or _raise_not_found()
        _, model = _find_model("replicate", match["model"])
        inputs = parse_object_field(await read_json_object(request), "input")
        if model.task == "automatic-speech-recognition":
            output: Any = {"transcription": describe_bytes(decode_base64(inputs.get("audio")))}
        else:
            summary = summarize_inputs(inputs, "prompt", "text", "image")
            output = [format_data_url(*generate_media(model.task, summary))]
        return JSONResponse({"id": "p", "status": "succeeded", "output": output})


def _find_model(provider: str, provider_id: str) -> tuple[str, FakeModel]:
    """Return the name and the model that a provider knows under an id of its own."""
    name = provider_id.removeprefix(_PROVIDER_ID_PREFIX)
    model = FAKE_MODELS.get(name)
    if model is None or provider not in model.providers:
        raise HubApiError(HTTPStatus.NOT_FOUND, f"Model {provider_id} not found at {provider}")
    return name, model


def _raise_not_found() -> NoReturn:
    raise HubApiError(HTTPStatus.NOT_FOUND, "Not found")
