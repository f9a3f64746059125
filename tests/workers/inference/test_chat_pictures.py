"""Pictures of a chat that are files of the Hub: read with the caller's token, sent as bytes."""

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest
from starlette.responses import JSONResponse, Response

from schema.accounts.vault import Secret
from schema.jobs.tables import Reason
from service.local.hub_emulator.inference.media import make_png
from tests.support.hub.scripted_hub import ScriptedHub
from tests.support.jobs.inference_caller import ModelCaller
from workers.executor import Completed, Rejected
from workers.hub.client import open_hub_jobs_client

PICTURE: Final = make_png("cat")
MAX_BYTES: Final = 1024 * 1024
"""The smallest limit that a deployment may set."""
HUB_URI: Final = "hf://datasets/ada/cats/cat.png"
WEB_URL: Final = "https://example.com/dog.png"
ANSWER: Final = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "A cat."}, "finish_reason": "stop"}
    ],
}


@pytest.fixture
async def caller(scripted_hub: ScriptedHub) -> AsyncGenerator[ModelCaller]:
    async with open_hub_jobs_client(scripted_hub.url, scripted_hub.url) as gateway:
        yield ModelCaller(gateway, Secret("hf_ada"), call_bytes=MAX_BYTES)


def hub_response(content: bytes, status: int = 200) -> Response:
    return Response(content, status, {"x-repo-commit": "a" * 40})


def make_chat(*urls: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


async def test_a_provider_gets_the_bytes_of_a_picture_of_the_hub(
    caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """It could not read a private file; each is read once, and an address of the web stays one."""
    scripted_hub.answers = [hub_response(PICTURE), JSONResponse(ANSWER)]

    outcome = await caller.call_model(model="a/m", inputs=make_chat(HUB_URI, WEB_URL, HUB_URI))

    assert isinstance(outcome, Completed), outcome
    read, sent = scripted_hub.requests
    assert read.url.path == "/datasets/ada/cats/resolve/main/cat.png"
    assert read.headers["authorization"] == "Bearer hf_ada"
    [turn] = json.loads(await sent.body())["messages"]
    data_url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    urls = [part["image_url"]["url"] for part in turn["content"][1:]]
    assert urls == [data_url, WEB_URL, data_url]


@pytest.mark.parametrize(
    ("responses", "says"),
    [
        ([hub_response(b"", 404)], HUB_URI),
        ([hub_response(b"no picture")], "text/plain; accepted types: image/gif"),
        ([hub_response(PICTURE + b"x" * MAX_BYTES)], "is larger than"),
        ([hub_response(PICTURE.ljust(MAX_BYTES - 1)), hub_response(PICTURE)], "is larger"),
    ],
)
async def test_a_picture_of_the_hub_that_cannot_be_read_is_not_asked_about(
    caller: ModelCaller, scripted_hub: ScriptedHub, responses: list[Response], says: str
) -> None:
    """All pictures of a chat together have the limit of one file; nobody is paid for an error."""
    scripted_hub.answers = list(responses)
    chat = make_chat(HUB_URI, "hf://buckets/ada/b/2.png")

    outcome = await caller.call_model(model="a/m", inputs=chat)

    assert isinstance(outcome, Rejected), outcome
    assert outcome.reason is Reason.INVALID_REQUEST
    assert says in outcome.message
    assert all("/v1/" not in request.url.path for request in scripted_hub.requests)
