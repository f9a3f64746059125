"""What is said of a call when the router, a provider, or what they lead to does not do its part."""

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from schema.accounts.vault import Secret
from schema.jobs.tables import JobState, Reason
from service.local.hub_emulator.inference.media import make_mp4, make_png
from tests.support.fake_web import FakeWeb, raw_response, run_fake_web
from tests.support.hub.scripted_hub import ScriptedHub, error_response
from tests.support.jobs.inference_caller import ModelCaller
from workers.executor import Completed, Outcome, Rejected, RetryLater, TokenRejected, Unknown
from workers.hub.client import open_hub_jobs_client

FILM = make_mp4("a cat")
LIMIT_BYTES = 1024 * 1024
CHAT: dict[str, Any] = {"model": "m/m", "inputs": "Hi"}
IMAGE: dict[str, Any] = {"task": "text-to-image", "model": "m/m", "inputs": "a cat"}
VIDEO: dict[str, Any] = {"task": "text-to-video", "model": "m/m", "inputs": "a cat"}
ADDRESS = "https://cdn.example.com/made.mp4"


def offers_response(
    *providers: str, task: str = "text-to-image", name: str = "theirs/m"
) -> Response:
    """The Hub's answer to who offers the model."""
    offers = [
        {"provider": each, "providerId": name, "status": "live", "task": task} for each in providers
    ]
    return JSONResponse({"id": "m/m", "inferenceProviderMapping": offers})


def chat_response(text: str = "Hello") -> Response:
    return JSONResponse({"choices": [{"message": {"content": text}}]})


@pytest.mark.parametrize(
    ("call", "answers", "says"),
    [
        (
            CHAT,
            [
                JSONResponse(
                    {
                        "choices": [{"message": {"reasoning": "Hm"}, "finish_reason": "length"}],
                        "usage": {"prompt_tokens": 3, "completion_tokens": 7},
                    }
                )
            ],
            "It used 3 prompt tokens and 7 completion tokens.",
        ),
        (
            {"task": "text-to-image", "model": "m/m", "inputs": "a cat"},
            ["nscale", JSONResponse({"data": []})],
            "no image",
        ),
        (
            {"task": "text-generation", "model": "m/m", "inputs": "One"},
            ["hf-inference", JSONResponse([{"generated_text": " "}])],
            "no text",
        ),
    ],
)
async def test_a_call_that_brought_nothing_usable_fails_and_says_what_it_brought(
    ada_caller: ModelCaller,
    scripted_hub: ScriptedHub,
    call: dict[str, Any],
    answers: list[Response | str],
    says: str,
) -> None:
    """It was paid for, so what did come back is its result."""
    scripted_hub.answers = [
        offers_response(answer, task=call["task"]) if isinstance(answer, str) else answer
        for answer in answers
    ]

    outcome = await ada_caller.call_model(**call)

    reason, message = read_failure(outcome)
    assert isinstance(outcome, Completed)
    assert reason is Reason.CALL_FAILED
    assert "nothing that can be used" in message
    assert says in message
    assert (outcome.run_result.result or {})["model"] == "m/m"


def queue_response() -> Response:
    place = "https://queue.fal.run/fal-ai/models/requests/r1"
    return JSONResponse({"request_id": "r1", "status": "IN_QUEUE", "response_url": place})


@pytest.fixture
async def fake_web() -> AsyncGenerator[FakeWeb]:
    async with run_fake_web() as opened:
        yield opened


@pytest.fixture
async def ada_caller(scripted_hub: ScriptedHub, fake_web: FakeWeb) -> AsyncGenerator[ModelCaller]:
    async with open_hub_jobs_client(scripted_hub.url, scripted_hub.url) as gateway:
        yield ModelCaller(gateway, Secret("hf_ada"), fake_web.fetcher, call_bytes=LIMIT_BYTES)


def read_failure(outcome: Outcome) -> tuple[Reason | None, str]:
    """Why a call has failed that was carried out."""
    assert isinstance(outcome, Completed), outcome
    assert outcome.run_result.state is JobState.FAILED
    return outcome.run_result.reason, str(outcome.run_result.message)


NOT_FOUND = {
    "error": {
        "message": "The requested model 'm/m' does not exist",
        "type": "invalid_request_error",
        "code": "model_not_found",
    }
}
LOADING = {"error": "loading", "estimated_time": 4}


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (JSONResponse(NOT_FOUND, 400), Rejected, "does not exist (model_not_found)"),
        (error_response(401, "expired"), TokenRejected, "expired"),
        (error_response(402, "no credits"), Rejected, "402: no credits"),
        (error_response(403, "not yours"), Rejected, "403: not yours"),
        (error_response(404, "who?"), Rejected, "the router answered 404: who?"),
        (error_response(429, "slowly", retry_after="7"), RetryLater, "slowly"),
        (JSONResponse({"detail": [{"msg": "too long"}]}, 422), Rejected, "422: too long"),
        (Response("<html>Bad gateway</html>", 502), Unknown, "502: <html>Bad gateway"),
        (JSONResponse({"error": "overloaded"}, 503), Unknown, "503: overloaded"),
        (JSONResponse(LOADING, 503), Unknown, "503: loading"),
        (
            JSONResponse(LOADING, 503, {"x-inference-provider": "hf-inference"}),
            RetryLater,
            "loading",
        ),
        (error_response(503, "in a moment", retry_after="7"), RetryLater, "in a moment"),
        (Response("", 302, {"location": "https://evil.example.com"}), Unknown, "302"),
        (Response("", 200), Completed, "has answered, but it is not JSON"),
        (JSONResponse({"choices": []}), Completed, "it is no answer of chat-completion"),
        (JSONResponse({"choices": [{"message": 3}]}), Completed, "no answer of chat-completion"),
        (JSONResponse({"error": {"message": "too busy"}}), Completed, "an error: too busy"),
        (Response("<html>Hi</html>", media_type="text/html"), Completed, "begins with '<html>Hi"),
        (Response("data: {}\n\n", media_type="text/event-stream"), Completed, "text/event-stream"),
        (Response("[" * 100_000, media_type="application/json"), Completed, "it is not JSON"),
    ],
)
async def test_what_a_chat_is_answered_is_told_apart(
    ada_caller: ModelCaller,
    scripted_hub: ScriptedHub,
    answer: Response,
    kind: type[Outcome],
    says: str,
) -> None:
    """A no is a no, doubt is doubt, and a 503 that says when to come back is neither."""
    scripted_hub.answers = [answer]

    outcome = await ada_caller.call_model(**CHAT)

    assert isinstance(outcome, kind), outcome
    assert says in str(outcome)
    assert len(scripted_hub.requests) == 1


async def test_nothing_is_sent_twice_and_an_answer_that_is_lost_is_in_doubt(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """It may have been carried out, and paid for."""

    async def breaks_off() -> AsyncGenerator[str]:
        yield '{"choices": ['
        raise ConnectionError

    scripted_hub.answers = [StreamingResponse(breaks_off(), media_type="application/json")]

    outcome = await ada_caller.call_model(**CHAT)

    assert isinstance(outcome, Unknown)
    assert len(scripted_hub.requests) == 1


async def test_what_is_asked_for_is_what_is_sent_and_billed(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """To the model and the provider that were named, at the expense of who was named."""
    scripted_hub.answers = [
        chat_response(),
        offers_response("together"),
        JSONResponse({"data": []}),
    ]

    await ada_caller.call_model(
        **CHAT, provider="groq", bill_to="acme", parameters={"max_tokens": 5}
    )
    await ada_caller.call_model(**IMAGE, bill_to="acme")

    chat, look, image = scripted_hub.requests
    assert (chat.url.path, look.url.path) == ("/v1/chat/completions", "/api/models/m/m")
    assert image.url.path == "/together/v1/images/generations"
    assert json.loads(await chat.body()) == {
        "max_tokens": 5,
        "model": "m/m:groq",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
    }
    assert [sent.headers.get("x-hf-bill-to") for sent in (chat, look, image)] == [
        "acme",
        None,
        "acme",
    ]
    assert {sent.headers["authorization"] for sent in scripted_hub.requests} == {"Bearer hf_ada"}


async def test_who_offers_a_model_is_asked_once_for_a_while_and_for_each_token(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """The order of providers is the caller's own, and a private model is nobody else's."""
    scripted_hub.answers = [offers_response("together"), error_response(400), error_response(400)]

    await ada_caller.call_model(**IMAGE)
    await ada_caller.call_model(**IMAGE)

    paths = [request.url.path for request in scripted_hub.requests]
    assert paths.count("/api/models/m/m") == 1
    ada_caller.token = Secret("hf_other")
    scripted_hub.answers = [
        error_response(404, "Repository not found", x_error_code="RepoNotFound")
    ]
    unseen = await ada_caller.call_model(**IMAGE)
    assert isinstance(unseen, Rejected)
    assert "the Hub has no model m/m" in unseen.message


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error_response(500, "oops"), RetryLater),
        (error_response(404, "no"), Rejected),
        (error_response(401, "Invalid credentials in Authorization header"), TokenRejected),
        (error_response(429, "slowly"), RetryLater),
        (Response("{", media_type="application/json"), RetryLater),
        (JSONResponse({"id": "m/m"}), Rejected),
    ],
)
async def test_before_it_is_sent_nothing_is_in_doubt(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, answer: Response, kind: type[Outcome]
) -> None:
    """Whatever becomes of the question who offers a model: the call was not made."""
    scripted_hub.answers = [answer]

    assert isinstance(await ada_caller.call_model(**IMAGE), kind)


@pytest.mark.parametrize("name", ["../../api/whoami-v2", "a/../../v1/x", "a#b"])
async def test_what_a_model_is_called_at_a_provider_cannot_lead_elsewhere(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, name: str
) -> None:
    """The token goes to the provider that was chosen, and not around it."""
    scripted_hub.answers = [offers_response("fal-ai", name=name)]

    assert isinstance(await ada_caller.call_model(**IMAGE), Rejected)
    assert len(scripted_hub.requests) == 1


async def test_a_film_is_waited_for_and_fetched_without_the_callers_token(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, fake_web: FakeWeb
) -> None:
    """Through trouble on the way, for asking how it goes may be repeated."""
    fake_web.pages[ADDRESS] = raw_response(FILM)
    scripted_hub.answers = [
        offers_response("fal-ai", task="text-to-video"),
        queue_response(),
        error_response(503, "oops"),
        JSONResponse({"status": "IN_PROGRESS"}),
        JSONResponse({"status": "COMPLETED"}),
        error_response(500, "oops"),
        JSONResponse({"video": {"url": ADDRESS}}),
    ]

    outcome = await ada_caller.call_model(**VIDEO)

    assert isinstance(outcome, Completed), outcome
    (file,) = outcome.files
    assert (file.content, file.media_type, file.name) == (FILM, "video/mp4", "video.mp4")
    looked, collected = scripted_hub.requests[3].url, scripted_hub.requests[-1].url
    assert looked.path == "/fal-ai/fal-ai/models/requests/r1/status"
    assert collected.path == "/fal-ai/fal-ai/models/requests/r1"
    assert collected.query == "_subdomain=queue"
    assert "authorization" not in fake_web.requests[0].headers


@pytest.mark.parametrize(
    "place",
    ["https://queue.fal.run/../../v1/x", "/a/../../b", "https://evil.example.com", None, 7],
)
async def test_a_place_in_a_queue_cannot_lead_the_token_elsewhere(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, place: Any
) -> None:
    """A provider says where its queue is; not above it, and not at another host."""
    queue_answer = {"request_id": "r1", "status": "IN_QUEUE", "response_url": place}
    scripted_hub.answers = [
        offers_response("fal-ai", task="text-to-video"),
        JSONResponse(queue_answer),
    ]

    outcome = await ada_caller.call_model(**VIDEO)

    assert read_failure(outcome)[0] is Reason.CALL_FAILED
    assert len(scripted_hub.requests) == 2


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://127.0.0.1/a.mp4", "not the URL of a file on the public web"),
        ("https://files.internal/a.mp4", "not the URL of a file on the public web"),
        ("file:///etc/hostname", "no answer of text-to-video"),
        ("/etc/hostname", "no answer of text-to-video"),
        ("https://cdn.example.com/gone.mp4", "answered 404"),
        ("https://cdn.example.com/page.mp4", "of no known kind"),
        ("https://cdn.example.com/large.mp4", "is larger than 1,048,576 bytes"),
    ],
)
async def test_what_was_made_and_cannot_be_had_is_said_to_be_paid_for_and_lost(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, fake_web: FakeWeb, address: str, says: str
) -> None:
    """A provider's address is believed no more than a caller's; and nothing is made again."""
    fake_web.pages["https://cdn.example.com/page.mp4"] = raw_response(b"<html>")
    fake_web.pages["https://cdn.example.com/large.mp4"] = raw_response(FILM + b"\0" * LIMIT_BYTES)
    scripted_hub.answers = [
        offers_response("fal-ai", task="text-to-video"),
        queue_response(),
        JSONResponse({"status": "COMPLETED"}),
        JSONResponse({"video": {"url": address}}),
    ]

    reason, message = read_failure(await ada_caller.call_model(**VIDEO))

    assert reason is Reason.CALL_FAILED
    assert says in message
    assert not scripted_hub.answers


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            Response(b"\0" * (2 * LIMIT_BYTES + 1), media_type="image/png"),
            "has more than 2097152 bytes",
        ),
        (
            Response(make_png("x") + b"\0" * LIMIT_BYTES, media_type="image/png"),
            "the image has more than",
        ),
        (Response(b"<html>", media_type="text/html"), "instead of image, it is of no known kind"),
        (JSONResponse({"data": [{"b64_json": "####"}]}), "no answer of text-to-image"),
        (JSONResponse({"data": [{"b64_json": base64.b64encode(b"PK").decode()}]}), "instead of"),
        (JSONResponse([]), "no answer of text-to-image"),
    ],
)
async def test_an_answer_that_cannot_be_kept_fails_and_leaves_what_there_is(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub, answer: Response, says: str
) -> None:
    """Too large, or nothing that the task makes."""
    scripted_hub.answers = [offers_response("together"), answer]

    outcome = await ada_caller.call_model(**IMAGE)

    reason, message = read_failure(outcome)
    assert reason is Reason.CALL_FAILED
    assert says in message
    assert isinstance(outcome, Completed)
    assert len(outcome.files) == (0 if "more than" in says else 1)


async def test_a_call_that_outlasts_its_timeout_is_said_to_go_on_there(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """It ends here, and is charged for all the same."""
    pending = [JSONResponse({"status": "IN_PROGRESS"}) for _ in range(50)]
    scripted_hub.answers = [
        offers_response("fal-ai", task="text-to-video"),
        queue_response(),
        *pending,
    ]

    reason, message = read_failure(await ada_caller.call_model(**VIDEO, timeout=1))

    assert reason is Reason.TIMED_OUT
    assert message.startswith("It was still at work at fal-ai after 1s")


async def test_replicate_that_needs_longer_than_it_can_be_waited_for_is_in_doubt(
    ada_caller: ModelCaller, scripted_hub: ScriptedHub
) -> None:
    """The router answers no question about what goes on there."""
    scripted_hub.answers = [
        offers_response("replicate"),
        JSONResponse({"status": "processing", "output": None}),
    ]

    outcome = await ada_caller.call_model(**IMAGE)

    assert isinstance(outcome, Unknown)
    assert "replicate was still at work" in outcome.message


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        ("200 OK", Completed, ""),
        ("404 Not Found", Rejected, "Not sent: https://files.example.com/… answered 404."),
        ("503 Oops", RetryLater, "answered 503"),
    ],
)
async def test_an_input_is_read_from_its_address_before_the_call_is_made(
    ada_caller: ModelCaller,
    scripted_hub: ScriptedHub,
    fake_web: FakeWeb,
    status: str,
    kind: type[Outcome],
    says: str,
) -> None:
    """By us, as bytes; what cannot be read is not paid for."""
    address = "https://files.example.com/cat.png"
    fake_web.pages[address] = raw_response(make_png("cat"), status)
    labels = JSONResponse([{"label": "cat", "score": 1}])
    scripted_hub.answers = [offers_response("hf-inference", task="image-classification"), labels]

    outcome = await ada_caller.call_model(
        task="image-classification", model="m/m", inputs={"url": address}
    )

    assert isinstance(outcome, kind)
    assert says in str(outcome)
    sent = scripted_hub.requests[1:]
    assert bool(sent) == (kind is Completed)
    if sent:
        assert await sent[0].body() == make_png("cat")
        assert sent[0].headers["content-type"] == "image/png"
    assert "authorization" not in fake_web.requests[0].headers
