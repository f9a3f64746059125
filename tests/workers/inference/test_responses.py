"""What is read out of the answers of providers, each of which has a form of its own."""

from typing import Any

import pytest

from schema.accounts.vault import Secret
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from workers.artifacts.redaction import Redactor
from workers.attempts.run import redact_outcome
from workers.executor import Completed, Rejected
from workers.inference.polling import PendingCall, ProviderCallFailed, parse_pending_call
from workers.inference.responses import TaskOutput, UnreadableResponse, parse_json, parse_response
from workers.inference.router import RouterResponse

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
URL = "https://cdn.example.com/a"


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        (
            "chat-completion",
            {"choices": [{"message": {"content": None, "tool_calls": [CALL]}}], "model": "m"},
            {"text": None, "finish_reason": None, "tool_calls": [CALL], "model": "m"},
        ),
        (
            "text-generation",
            [{"generated_text": "x", "details": None}],
            {"text": "x"},
        ),
        (
            "automatic-speech-recognition",
            {"text": "a b", "segments": [{"text": "a", "start": 0, "end": 1, "id": 7}]},
            {"text": "a b", "chunks": [{"text": "a", "timestamp": [0, 1]}]},
        ),
        ("automatic-speech-recognition", {"output": [{"transcription": "a"}]}, {"text": "a"}),
        ("automatic-speech-recognition", {"output": "a"}, {"text": "a"}),
        (
            "text-classification",
            [[{"label": "b", "score": 0.1}, {"label": "a", "score": 0.9}]],
            {"labels": [{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]},
        ),
        (
            "zero-shot-classification",
            {"sequence": "x", "labels": ["a", "b"], "scores": [0.1, 0.9]},
            {"labels": [{"label": "b", "score": 0.9}, {"label": "a", "score": 0.1}]},
        ),
        ("feature-extraction", [0.5, 1], {"embeddings": [[0.5, 1]]}),
        ("feature-extraction", [[[1], [2]]], {"embeddings": [[[1], [2]]]}),
        ("feature-extraction", {"data": [{"embedding": [1]}]}, {"embeddings": [[1]]}),
    ],
)
def test_what_is_said_is_the_same_whoever_says_it(
    task: str, answer: Any, expected: dict[str, Any]
) -> None:
    """Whoever reads a result need not know the provider."""
    assert parse_json(task, answer) == TaskOutput(expected)


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("text-to-image", {"images": [{"url": URL}, {"url": URL}], "seed": 1}),
        ("text-to-image", {"data": [{"b64_json": "eHk="}, {"url": URL}]}),
        ("text-to-image", {"data": {"status": "completed", "outputs": [URL, URL]}}),
        ("text-to-image", {"image_result": [{"url": URL}]}),
        ("text-to-image", {"output": [URL]}),
        ("text-to-image", {"output": URL}),
        ("text-to-video", {"video": {"url": URL}}),
        ("text-to-video", {"video": {"video_url": URL}}),
        ("text-to-video", {"outputs": {"video_url": URL}}),
        ("text-to-speech", {"audio": {"url": "data:audio/wav;base64,eHk="}}),
    ],
)
def test_everything_that_was_made_is_found_wherever_it_stands(task: str, answer: Any) -> None:
    """All of it was paid for."""
    made = parse_json(task, answer).media

    assert made
    assert set(made) <= {URL, b"xy"}


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_what_is_no_number_to_postgres_keeps_no_answer_from_being_kept(number: str) -> None:
    """JSON as Python reads it has more numbers than JSON has."""
    template = r'{"choices": [{"message": {"content": "Hi\u0000"}}], "usage": {"seconds": NUMBER}}'
    body = template.replace("NUMBER", number)

    answer = parse_response(
        "chat-completion", RouterResponse(body.encode(), "application/json", None)
    )

    assert answer.result["usage"] == {"seconds": None}
    assert answer.result["text"] == "Hi\ufffd"


@pytest.mark.parametrize("task", ["chat-completion", "text-to-image", "feature-extraction"])
@pytest.mark.parametrize("answer", [None, [], {}, 3, "x", ["x"], {"data": None}, {"choices": 1}])
def test_what_is_no_answer_is_told_from_one(task: str, answer: Any) -> None:
    """And never an error of ours."""
    with pytest.raises(UnreadableResponse):
        parse_json(task, answer)


@pytest.mark.parametrize(
    ("provider", "path", "answer", "asks"),
    [
        ("wavespeed", "/wavespeed/api/v3/m", {"data": {"urls": {"get": f"{URL}/r"}}}, "/a/r"),
        ("zai-org", "/zai-org/x", {"id": "t", "task_status": "PROCESSING"}, "async-result/t"),
        ("together", "/together/v2/videos", {"id": "t"}, "/together/v2/videos/t"),
    ],
)
def test_other_queues_are_asked_at_the_router(
    provider: str, path: str, answer: Any, asks: str
) -> None:
    """With the token, so nowhere else."""
    call = parse_pending_call(provider, path, answer)

    assert isinstance(call, PendingCall)
    assert call.status_path.startswith(f"/{provider}/")
    assert call.status_path.endswith(asks)


@pytest.mark.parametrize(
    ("provider", "path", "state"),
    [
        ("wavespeed", "/wavespeed/m", {"data": {"status": "failed", "error": "no"}}),
        ("zai-org", "/zai-org/m", {"task_status": "FAIL", "message": "no"}),
        ("together", "/together/v2/videos", {"status": "failed", "error": {"message": "no"}}),
        ("fal-ai", "/fal-ai/m?_subdomain=queue", {"status": "COMPLETED", "error": "no"}),
        ("fal-ai", "/fal-ai/m?_subdomain=queue", {"status": "no"}),
    ],
)
def test_what_has_failed_in_a_queue_is_seen_to_have(provider: str, path: str, state: Any) -> None:
    """The Hub's own client waits for ever for one of them."""
    answer: dict[str, Any] = {"id": "t", "task_status": "PROCESSING", "response_url": f"{URL}/r"}
    answer["data"] = {"urls": {"get": f"{URL}/r"}}
    waiting = parse_pending_call(provider, path, answer)
    assert waiting is not None

    with pytest.raises(ProviderCallFailed, match="no"):
        waiting.parse_status(state)


@pytest.mark.parametrize("before", [990, 999, 1010])
def test_a_message_is_cut_after_it_was_searched(before: int) -> None:
    """A secret where it is cut is not left in part; the end says what went wrong."""
    message = f"{'x' * before}hf_secret_1{'y' * 2000}the end"

    outcome = redact_outcome(
        Rejected(Reason.INVALID_REQUEST, message), Redactor({"T": Secret("hf_secret_1")})
    )

    assert isinstance(outcome, Rejected)
    assert "secret" not in outcome.message
    assert outcome.message.endswith("the end")
    assert len(outcome.message) == 2000


def test_a_failure_repeats_no_secret_of_the_callers() -> None:
    """A provider may say what it was sent."""
    failure = RunResult(
        JobState.FAILED, "FAILED", Reason.CALL_FAILED, "fal-ai: bad token hf_secret_1"
    )

    outcome = redact_outcome(Completed(failure), Redactor({"HF_TOKEN": Secret("hf_secret_1")}))

    assert isinstance(outcome, Completed)
    assert "hf_secret_1" not in str(outcome.run_result.message)
