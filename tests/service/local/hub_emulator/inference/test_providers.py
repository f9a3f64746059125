"""What the local Hub answers in place of models, by what the real client makes of it."""

# The client library, numpy and Pillow leave these partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# What it remembers of models between tests has no public name.
# pyright: reportPrivateUsage=false

import hashlib
from collections.abc import Callable, Generator
from typing import Any

import httpx2
import pytest
from huggingface_hub import InferenceClient, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.inference._providers import _common, hf_inference
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

from schema.specs.inputs import media_types
from service.local.hub_emulator.inference.media import make_png
from service.local.hub_emulator.users import LocalTokenKind, find_user
from tests.support.http_clients import get_once
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.polling import HTTP_TIMEOUT_SECONDS

PICTURE = make_png("a test")
DIGEST = hashlib.sha256(PICTURE).hexdigest()


class _LocalHubTransport(httpx2.HTTPTransport):
    """Leads to the local Hub whatever was meant for the real one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._to = httpx2.URL(url)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.host in {"huggingface.co", "router.huggingface.co"}
        request.url = request.url.copy_with(scheme="http", host=self._to.host, port=self._to.port)
        request.headers["host"] = f"{self._to.host}:{self._to.port}"
        return super().handle_request(request)


@pytest.fixture
def inference_client(hub_emulator: HubEmulatorProcess) -> Generator[Callable[..., InferenceClient]]:
    """The real client, for one provider, as one user."""
    hooks: dict[str, Any] = {"request": [hf_request_event_hook]}
    set_client_factory(
        lambda: httpx2.Client(
            transport=_LocalHubTransport(hub_emulator.url),
            timeout=HTTP_TIMEOUT_SECONDS,
            event_hooks=hooks,
        )
    )
    forget = (_common._fetch_inference_provider_mapping, hf_inference._check_supported_task)

    def client(provider: Any, name: str = "alice", **more: Any) -> InferenceClient:
        return InferenceClient(
            provider=provider,
            token=find_user(hub_emulator.users, name, LocalTokenKind.WRITE).token,
            **more,
        )

    try:
        yield client
    finally:
        set_client_factory(default_client_factory)
        for remembered in forget:
            remembered.cache_clear()


TASKS: dict[str, tuple[str, Callable[[InferenceClient], Any], Callable[[Any], object]]] = {
    "embeddings of hf-inference": (
        "hf-inference",
        lambda client: client.feature_extraction("a", model="local/vectors"),
        lambda vectors: vectors.shape == (8,),
    ),
    "embeddings in OpenAI's form": (
        "together",
        lambda client: client.feature_extraction("a", model="local/vectors"),
        lambda vectors: vectors.shape == (1, 8),
    ),
    "a text": (
        "together",
        lambda client: client.text_generation("One", model="local/words"),
        lambda text: text == "One, and so on",
    ),
    "a picture of hf-inference": (
        "hf-inference",
        lambda client: client.text_to_image("a cat", model="local/painter"),
        lambda image: image.size == (8, 8) and "a cat" in image.info["Comment"],
    ),
    "a picture of nscale": (
        "nscale",
        lambda client: client.text_to_image("a cat", model="local/painter"),
        lambda image: image.size == (8, 8) and "a cat" in image.info["Comment"],
    ),
    "a changed picture": (
        "together",
        lambda client: client.image_to_image(PICTURE, prompt="redder", model="local/retoucher"),
        lambda image: all(part in image.info["Comment"] for part in ("redder", DIGEST)),
    ),
    "speech": (
        "deepinfra",
        lambda client: client.text_to_speech("Hello", model="local/speaker"),
        lambda sound: (
            media_types.detect_media_type(sound, media_types.AUDIO) == "audio/wav"
            and b"Hello" in sound
        ),
    ),
    "what was said, as a form": (
        "deepinfra",
        lambda client: client.automatic_speech_recognition(PICTURE, model="local/listener"),
        lambda transcript: DIGEST in transcript.text,
    ),
    "what was said, to fal": (
        "fal-ai",
        lambda client: client.automatic_speech_recognition(PICTURE, model="local/listener"),
        lambda transcript: DIGEST in transcript.text,
    ),
    "labels": (
        "hf-inference",
        lambda client: client.text_classification("Good", model="local/critic"),
        lambda labels: labels[0].label == "POSITIVE",
    ),
    "labels that are given": (
        "hf-inference",
        lambda client: client.zero_shot_classification("x", ["a", "b"], model="local/sorter"),
        lambda labels: [each.label for each in labels] == ["a", "b"],
    ),
    "a summary": (
        "hf-inference",
        lambda client: client.summarization("Long.", model="local/editor"),
        lambda summary: summary.summary_text == "In short: Long.",
    ),
    "a translation": (
        "hf-inference",
        lambda client: client.translation("Hi", model="local/translator"),
        lambda translation: translation.translation_text == "En bref : Hi",
    ),
    "labels of a picture": (
        "hf-inference",
        lambda client: client.image_classification(PICTURE, model="local/labeller"),
        lambda labels: DIGEST in labels[0].label,
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_real_client_reads_the_stand_in_of_each_task(
    inference_client: Callable[..., InferenceClient], task: str
) -> None:
    """It knows the forms of the providers better than we do; the answers show what arrived."""
    provider, call, holds = TASKS[task]

    assert holds(call(inference_client(provider)))


def test_a_call_is_billed_to_whom_the_caller_may_bill(
    inference_client: Callable[..., InferenceClient],
) -> None:
    """Carol has no credits, and no organisation; Alice has one, and it is not just anybody's."""
    inference_client("hf-inference", bill_to="acme").summarization("x", model="local/editor")
    refused: list[int] = []
    for name, payer in (("carol", None), ("carol", "acme"), ("alice", "nobody")):
        with pytest.raises(HfHubHTTPError) as no:
            inference_client("hf-inference", name, bill_to=payer).summarization(
                "x", model="local/editor"
            )
        refused.append(no.value.response.status_code)

    assert refused == [402, 403, 403]


def test_a_model_that_is_not_there_is_not_found_as_the_hub_says_it(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """The client tells a missing repository from a wrong address by the code."""
    answer = get_once(f"{hub_emulator.url}/api/models/local/nothing")

    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")


def test_a_model_that_is_cold_says_when_it_will_be_there(hub_emulator: HubEmulatorProcess) -> None:
    """In the words of hf-inference, and once."""
    with hub_emulator.open_client() as client:
        answers = [
            client.post("/hf-inference/models/local/cold", json={"inputs": "x"}) for _ in range(2)
        ]

    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json()["estimated_time"] == 1.0
