"""Every task at every provider the local Hub stands in for: what was asked, sent and answered."""

import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from schema.accounts.vault import Secret
from schema.jobs.progress import JobProgress
from schema.jobs.tables import JobState, Reason
from schema.specs.inputs import media_types
from service.local.hub_emulator.inference.media import make_png, make_wav
from service.local.hub_emulator.users import find_user
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs.inference_caller import ModelCaller
from workers.executor import Completed, Rejected, RetryLater
from workers.hub.client import open_hub_jobs_client

PICTURE, SOUND = make_png("in"), make_wav("in")


def encode_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
async def alice_caller(hub_emulator: HubEmulatorProcess) -> AsyncGenerator[ModelCaller]:
    """Calls of a user who pays."""
    token = Secret(find_user(hub_emulator.users, "alice").token)
    async with open_hub_jobs_client(hub_emulator.url, hub_emulator.url) as gateway:
        yield ModelCaller(gateway, token)


ALL_PROVIDERS = "hf-inference", "fal-ai", "together", "replicate", "deepinfra", "scaleway", "nscale"
PROVIDERS_BY_TASK: dict[str, tuple[str, tuple[int, ...], Any]] = {
    "text-generation": ("local/words", (0, 2, 4), "One"),
    "feature-extraction": ("local/vectors", (0, 2, 4, 5), ["a", "b"]),
    "text-to-image": ("local/painter", (0, 1, 2, 3, 6), "a cat"),
    "image-to-image": (
        "local/retoucher",
        (0, 1, 2, 3),
        {"data": encode_base64(PICTURE), "prompt": "redder"},
    ),
    "text-to-video": ("local/filmer", (1, 2, 3), "a cat"),
    "image-to-video": (
        "local/animator",
        (1, 2),
        {"data": encode_base64(PICTURE), "prompt": "faster"},
    ),
    "text-to-speech": ("local/speaker", (0, 1, 2, 3, 4), "Hello"),
    "automatic-speech-recognition": (
        "local/listener",
        (0, 1, 3, 4),
        {"data": encode_base64(SOUND)},
    ),
    "text-classification": ("local/critic", (0,), "Good"),
    "zero-shot-classification": ("local/sorter", (0,), "x"),
    "summarization": ("local/editor", (0,), "Long."),
    "translation": ("local/translator", (0,), "Hi"),
    "image-to-text": ("local/captioner", (0,), {"data": encode_base64(PICTURE)}),
    "image-classification": ("local/labeller", (0,), {"data": encode_base64(PICTURE)}),
}
EXPECTED_RESULTS: dict[str, Any] = {
    "text-generation": {"text": "One, and so on"},
    "feature-extraction": {"count": 2, "dimensions": 8},
    "automatic-speech-recognition": {"text": sha256_hex(SOUND)},
    "text-classification": {"labels": "POSITIVE"},
    "zero-shot-classification": {"labels": "'a'"},
    "summarization": {"text": "In short: Long."},
    "translation": {"text": "En bref : Hi"},
    "image-to-text": {"text": sha256_hex(PICTURE)},
    "image-classification": {"labels": sha256_hex(PICTURE)},
}
EXPECTED_FILES: dict[str, tuple[frozenset[str], list[str]]] = {
    "text-to-image": (media_types.IMAGES, ["a cat"]),
    "image-to-image": (media_types.IMAGES, ["redder", sha256_hex(PICTURE)]),
    "text-to-video": (media_types.VIDEO, ["a cat"]),
    "image-to-video": (media_types.VIDEO, ["faster", sha256_hex(PICTURE)]),
    "text-to-speech": (media_types.AUDIO, ["Hello"]),
}
CASES = [
    (task, ALL_PROVIDERS[place])
    for task, (_, places, _) in PROVIDERS_BY_TASK.items()
    for place in places
]


@pytest.mark.parametrize(("task", "provider"), CASES)
async def test_each_task_is_carried_out_by_each_provider(
    alice_caller: ModelCaller, task: str, provider: str
) -> None:
    """The stand-ins answer in each provider's own form, and say what has reached them."""
    model, _, inputs = PROVIDERS_BY_TASK[task]
    parameters = {"candidate_labels": ["a", "b"]} if task.startswith("zero") else {}

    outcome = await alice_caller.call_model(
        task=task, model=model, inputs=inputs, provider=provider, parameters=parameters
    )

    assert isinstance(outcome, Completed), outcome
    result = outcome.run_result.result
    assert outcome.run_result.state is JobState.SUCCEEDED, outcome
    assert result is not None
    assert (result["task"], result["model"], result["provider"]) == (task, model, provider)
    for name, shown in EXPECTED_RESULTS.get(task, {}).items():
        assert str(shown) in str(result[name])
    if task in EXPECTED_FILES:
        accept, words = EXPECTED_FILES[task]
        (file,) = outcome.files
        assert file.content is not None
        assert file.media_type == media_types.detect_media_type(file.content, accept)
        assert (file.size_bytes, file.sha256) == (len(file.content), sha256_hex(file.content))
        assert all(word.encode() in file.content for word in words), file.content


async def test_the_first_who_offers_it_is_asked_if_nobody_is_named(
    alice_caller: ModelCaller,
) -> None:
    """In the order the Hub gives, which is the caller's own."""
    outcome = await alice_caller.call_model(
        task="text-to-video", model="local/filmer", inputs="a cat"
    )

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    assert outcome.run_result.result["provider"] == "fal-ai"


@pytest.mark.parametrize("provider", ["fal-ai", "together"])
async def test_a_place_in_a_queue_is_told_and_a_failure_there_is_one(
    alice_caller: ModelCaller, provider: str
) -> None:
    """It was carried out, so it is neither in doubt nor tried again; the reason is theirs."""
    reports: list[JobProgress] = []

    outcome = await alice_caller.call_model(
        reports.append,
        task="text-to-video",
        model="local/spoiler",
        inputs="a cat",
        provider=provider,
    )

    assert isinstance(outcome, Completed)
    assert outcome.run_result.reason is Reason.CALL_FAILED
    assert "The stand-in was asked to fail" in str(outcome.run_result.message)
    assert [progress.message for progress in reports][:1] in (
        ["fal-ai: in a queue, 0 ahead"],
        ["together: being made"],
    )


async def test_a_model_that_is_not_loaded_yet_is_asked_again_when_it_is(
    alice_caller: ModelCaller,
) -> None:
    """The one answer of a server that had trouble which proves that nothing was carried out."""
    arguments: dict[str, Any] = {
        "task": "text-classification",
        "model": "local/cold",
        "inputs": "x",
    }

    first, second = (
        await alice_caller.call_model(**arguments),
        await alice_caller.call_model(**arguments),
    )

    assert isinstance(first, RetryLater)
    assert first.retry_after is not None
    assert first.retry_after.total_seconds() == 1
    assert isinstance(second, Completed)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"model": "local/nothing"}, "the Hub has no model local/nothing"),
        ({"model": "local/unoffered"}, "local/unoffered is not offered by any Inference Provider"),
        ({"model": "local/filmer"}, "is not offered for text-to-image by any Inference Provider"),
        ({"model": "local/filmer"}, "but for text-to-video"),
        ({"model": "local/echo"}, "but for chat-completion"),
        ({"provider": "groq"}, "groq does not support text-to-image; these providers do: fal-ai, "),
        ({"provider": "zai-org"}, "not offered for text-to-image by zai-org"),
        (
            {"provider": "openai"},
            "these providers do: fal-ai, hf-inference, nscale, replicate, together",
        ),
        (
            {"task": "text-to-video", "model": "local/filmer", "provider": "together"}
            | {"parameters": {"target_size": 7}},
            "parameters do not fit what together takes",
        ),
    ],
)
async def test_what_nobody_offers_is_not_sent_and_says_what_is_offered(
    alice_caller: ModelCaller, overrides: dict[str, Any], says: str
) -> None:
    """With the task it is for, and who could be asked: the next attempt can be right."""
    task: dict[str, Any] = {"task": "text-to-image", "model": "local/painter"}
    task["inputs"] = "a cat"

    outcome = await alice_caller.call_model(**task | overrides)

    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.INVALID_REQUEST
    assert outcome.message.startswith("Not sent: ")
    assert says in outcome.message


async def test_hf_inference_is_asked_by_name_for_what_it_does_not_list(
    alice_caller: ModelCaller,
) -> None:
    """As the Hub's own client does; what it then says of the model is passed on."""
    outcome = await alice_caller.call_model(
        task="text-to-image", model="local/unoffered", inputs="a cat", provider="hf-inference"
    )

    assert isinstance(outcome, Rejected)
    assert outcome.message.startswith("hf-inference answered 404: Model local/unoffered")


async def test_many_embeddings_become_a_file(alice_caller: ModelCaller) -> None:
    """A result is read by a model; ten thousand numbers are not."""
    texts = [str(number) for number in range(1500)]

    outcome = await alice_caller.call_model(task="embeddings", model="local/vectors", inputs=texts)

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    assert "embeddings" not in outcome.run_result.result
    assert (outcome.run_result.result["count"], outcome.run_result.result["dimensions"]) == (
        1500,
        8,
    )
    (file,) = outcome.files
    assert (file.name, file.media_type) == ("embeddings.json", "application/json")
