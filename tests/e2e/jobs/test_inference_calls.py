"""Model calls through the public tools: every task, from the launch to its result and files."""

import base64
import hashlib
from typing import Any

import pytest

from service.local.hub_emulator.inference.media import make_png, make_wav
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")

PICTURE, SOUND = make_png("in"), make_wav("in")
PICTURE_INPUT = {"data": base64.b64encode(PICTURE).decode()}
SOUND_INPUT = {"data": base64.b64encode(SOUND).decode()}
DIGEST = hashlib.sha256(PICTURE).hexdigest()
TASKS: dict[str, tuple[str, Any, str | dict[str, Any]]] = {
    "chat-completion": ("local/echo", "Say hello.", {"text": "Say hello."}),
    "text-generation": ("local/words", "One", {"text": "One, and so on"}),
    "embeddings": ("local/vectors", ["a", "b"], {"count": 2, "dimensions": 8}),
    "text-to-image": ("local/painter", "a cat", "image.png"),
    "image-to-image": ("local/retoucher", PICTURE_INPUT | {"prompt": "redder"}, "image.png"),
    "text-to-video": ("local/filmer", "a cat", "video.mp4"),
    "image-to-video": ("local/animator", PICTURE_INPUT, "video.mp4"),
    "text-to-speech": ("local/speaker", "Hello", "audio.wav"),
    "automatic-speech-recognition": (
        "local/listener",
        SOUND_INPUT,
        {"text": hashlib.sha256(SOUND).hexdigest()},
    ),
    "text-classification": ("local/critic", "Good", {"labels": "POSITIVE"}),
    "zero-shot-classification": ("local/sorter", "x", {"labels": "'sport'"}),
    "summarization": ("local/editor", "Long.", {"text": "In short: Long."}),
    "translation": ("local/translator", "Hi", {"text": "En bref : Hi"}),
    "image-to-text": ("local/captioner", PICTURE_INPUT, {"text": DIGEST}),
    "image-classification": ("local/labeller", PICTURE_INPUT, {"labels": DIGEST}),
}


async def test_every_task_is_a_job_with_a_result_or_a_file(alice: McpCaller) -> None:
    """What a model makes outlives the call: words in the result, the rest in files by their sum."""
    launched = dict[str, str]()
    for task, (model, inputs, _) in TASKS.items():
        more = {"candidate_labels": ["sport", "art"]} if task.startswith("zero") else {}
        view = await alice.call_tool(
            "launch_inference", task=task, model=model, inputs=inputs, parameters=more
        )
        launched[task] = view["job_id"]

    for task, (model, _, expected) in TASKS.items():
        view = await alice.wait_until_finished(launched[task])
        assert view["state"] == "succeeded", (task, view)
        left = await alice.call_tool("job_result", job_id=launched[task])
        assert left["result"]["model"] == model
        if isinstance(expected, str):
            (file,) = left["files"]
            assert (file["name"], len(file["sha256"])) == (expected, 64)
            assert file["size_bytes"] > 50
        else:
            for name, shown in expected.items():
                assert str(shown) in str(left["result"][name]), task


async def test_a_call_that_is_called_off_while_it_is_under_way_is_dropped(alice: McpCaller) -> None:
    """Cancel is final at once; what the model says later is nobody's."""
    launched = await alice.call_tool("launch_inference", model="local/slow-60s", inputs="Hi")
    handle = launched["job_id"]
    await alice.wait_until(handle, lambda view: view["state"] == "running")

    cancelled = await alice.call_tool("cancel_job", job_id=handle)
    view = await alice.wait_until(handle, lambda view: view["upstream"] == "stopped")

    assert (cancelled["state"], view["state"]) == ("cancelled", "cancelled")


async def test_a_call_nobody_offers_says_so_and_is_retried_as_one_that_is_offered(
    alice: McpCaller,
) -> None:
    """What to change is in the failure, and retry_job takes it."""
    wrong = await alice.call_tool(
        "launch_inference", task="text-to-image", model="local/filmer", inputs="a cat"
    )
    failed = await alice.wait_until_finished(wrong["job_id"])

    again = await alice.call_tool(
        "retry_job", job_id=wrong["job_id"], overrides={"task": "text-to-video"}
    )
    view = await alice.wait_until_finished(again["job_id"])

    assert (failed["state"], failed["reason"]) == ("failed", "invalid_request")
    assert "but for text-to-video" in failed["summary"]
    assert "overriding model or task" in failed["next_step"]
    assert (view["state"], view["rerun_of"]) == ("succeeded", wrong["job_id"])


async def test_a_failure_in_a_providers_queue_is_told_in_its_words(alice: McpCaller) -> None:
    """It was carried out, and perhaps charged; nobody repeats it behind the caller's back."""
    launched = await alice.call_tool(
        "launch_inference", task="text-to-video", model="local/spoiler", inputs="a cat"
    )

    view = await alice.wait_until_finished(launched["job_id"])

    assert (view["state"], view["reason"], view["attempt"]) == ("failed", "call_failed", 1)
    assert "The stand-in was asked to fail" in view["summary"]


async def test_the_name_of_a_file_is_a_text_and_never_opened(alice: McpCaller) -> None:
    """The Hub's own client would have uploaded the file of that name."""
    launched = await alice.call_tool("launch_inference", model="local/echo", inputs="/etc/hostname")
    await alice.wait_until_finished(launched["job_id"])
    left = await alice.call_tool("job_result", job_id=launched["job_id"])

    assert left["result"]["text"].endswith("You said: /etc/hostname")


async def test_a_model_reads_a_file_that_was_sent_by_link(alice: McpCaller) -> None:
    """From the disk of the person to the provider, with nothing but the tools and one PUT."""
    upload = await alice.call_tool("create_upload", name="in.png", media_type="image/png")
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        sent = await http.put(upload["url"], content=PICTURE)
    assert sent.status_code == 201, sent.text

    launched = await alice.call_tool(
        "launch_inference",
        task="image-to-text",
        model="local/captioner",
        inputs={"url": upload["upload_id"]},
    )
    view = await alice.wait_until_finished(launched["job_id"])

    assert view["state"] == "succeeded", view
    left = await alice.call_tool("job_result", job_id=launched["job_id"])
    assert left["result"]["text"].endswith(f" sha256 {DIGEST}")
