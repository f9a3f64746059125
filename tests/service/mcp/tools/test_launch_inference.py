"""What launch_inference takes for each task, and what it says where something else is given."""

import base64
from typing import Any

from schema.specs.inputs.inference_inputs import MAX_MEDIA_BYTES
from service.local.hub_emulator.inference.media import make_png
from tests.support.mcp.client import answer_text, open_mcp_client

PICTURE = base64.b64encode(make_png("in")).decode()
TOO_LARGE_INPUT = base64.b64encode(bytes(MAX_MEDIA_BYTES + 1)).decode()
ASR_TASK, IMAGE_TO_IMAGE_TASK, TEXT_TO_IMAGE_TASK = (
    "automatic-speech-recognition",
    "image-to-image",
    "text-to-image",
)
FILE_FORMS = '{"url": "https://example.com/a.png"} or {"data": "<base64>"}'


WRONG_SHAPES: list[tuple[str, Any, str]] = [
    ("chat-completion", "", "the text is empty; write"),
    ("chat-completion", [], 'write [{"role": "user", "content": "Name three rivers."}]'),
    ("chat-completion", ["Hi"], "at [0], "),
    ("chat-completion", [{"role": "usr", "content": "x"}], "at [0].role, "),
    ("chat-completion", [{"role": "user"}], "a turn needs content or tool_calls"),
    ("chat-completion", {"data": PICTURE}, "for chat-completion, this is not a list"),
    ("text-generation", [{"role": "user", "content": "x"}], "this is not a text; write"),
    ("embeddings", [""], "for feature-extraction, at [0], the text is empty"),
    ("embeddings", {"a": 1}, 'write ["a river", "a mountain"]'),
    (TEXT_TO_IMAGE_TASK, {"url": "https://example.com/a.png"}, 'write "A lighthouse at dawn."'),
    (
        IMAGE_TO_IMAGE_TASK,
        "/etc/hostname",
        f"neither bytes nor an address of them; write {FILE_FORMS}",
    ),
    (ASR_TASK, "/etc/hostname", f"neither bytes nor an address of them; write {FILE_FORMS}"),
    (ASR_TASK, {"data": "/etc/hostname"}, "this is not base 64"),
    (ASR_TASK, {"url": "/etc/hostname"}, "not the URL of a file on the public web"),
    (ASR_TASK, {"url": "file:///etc/hostname"}, "not the URL of a file on the public web"),
    (ASR_TASK, {"url": "http://example.com/a.wav"}, "not the URL of a file on the public web"),
    (ASR_TASK, {"url": "https://169.254.169.254/"}, "not the URL of a file on the public web"),
    (ASR_TASK, {"url": "hf://datasets/a/b/../../c"}, "is not a file of the Hub"),
    (ASR_TASK, {"path": "a.wav"}, "at path, "),
    (ASR_TASK, {"data": PICTURE}, "it is image/png; accepted types: audio/"),
    (ASR_TASK, {"url": "https://example.com/a.wav", "prompt": "x"}, "this task takes no prompt"),
    (IMAGE_TO_IMAGE_TASK, {"data": "###"}, "this is not base 64"),
    (IMAGE_TO_IMAGE_TASK, {"data": TOO_LARGE_INPUT}, "this is more than 524,288 bytes"),
    (
        IMAGE_TO_IMAGE_TASK,
        {"data": PICTURE, "url": "https://example.com/a"},
        "give either url or data",
    ),
    (IMAGE_TO_IMAGE_TASK, {"prompt": "redder"}, "give either url or data"),
]


async def test_inputs_of_the_wrong_shape_are_refused_with_a_right_one(service_url: str) -> None:
    """Before there is a handle, and in words a model can act on."""
    async with open_mcp_client(service_url) as client:
        for task, inputs, says in WRONG_SHAPES:
            arguments = {"task": task, "model": "m/m", "inputs": inputs}
            answer = await client.call_tool("launch_inference", arguments)
            assert answer.is_error, inputs
            assert (
                f"inputs: for {task.replace('embeddings', 'feature-extraction')}, "
                in answer_text(answer)
            )
            assert says in answer_text(answer)


WRONG_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"provider": "fastest", "task": TEXT_TO_IMAGE_TASK}, "chooses a provider for chats only"),
    ({"task": "zero-shot-classification"}, 'needs {"candidate_labels": ["a topic"'),
    ({"parameters": {"prompt": "x"}}, "'prompt' is not a parameter here"),
    ({"parameters": {"input": "x"}, "task": "embeddings"}, "'input' is not a parameter here"),
    ({"model": "../../api/whoami-v2"}, "is not the id of a model"),
    ({"model": "https://evil.example.com/x"}, "is not the id of a model"),
    ({"bill_to": "not yours"}, "is not the name of an organisation"),
    ({"bill_to": "strangers"}, "strangers"),
    ({"task": "video"}, "is none of"),
]


async def test_what_cannot_be_carried_out_is_refused_before_it_is_a_job(service_url: str) -> None:
    """Whoever asks can mend it at once."""
    async with open_mcp_client(service_url) as client:
        for wrong, says in WRONG_ARGUMENTS:
            arguments: dict[str, Any] = {"model": "m/m", "inputs": "Hi"} | wrong
            answer = await client.call_tool("launch_inference", arguments)
            assert answer.is_error, wrong
            assert says in answer_text(answer)


ACCEPTED_INPUTS: list[tuple[str, Any]] = [
    (ASR_TASK, "https://example.com/a.wav"),
    (ASR_TASK, '{"url": "https://example.com/a.wav"}'),
    (ASR_TASK, {"url": "hf://datasets/a/b/c.wav"}),
    (IMAGE_TO_IMAGE_TASK, {"data": f"data:image/png;base64,{PICTURE}", "prompt": "redder"}),
    ("embeddings", '["a", "b"]'),
    ("Embeddings", "a"),
    (
        "chat-completion",
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
                ],
            }
        ],
    ),
]


async def test_what_can_mean_only_one_thing_is_taken(service_url: str) -> None:
    """Clients pack objects into texts, and write an address alone."""
    async with open_mcp_client(service_url) as client:
        for task, inputs in ACCEPTED_INPUTS:
            arguments = {"task": task, "model": "m/m", "inputs": inputs}
            answer = await client.call_tool("launch_inference", arguments)
            assert not answer.is_error, answer_text(answer)
