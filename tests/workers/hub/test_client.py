"""The way to the Hub, against a server that answers in every way the Hub might."""

import json
import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from schema.accounts.vault import Secret
from service.local.ports import find_free_port
from workers.hub.client import HubAmbiguous, HubClient, HubRejected, HubUnreachable, open_hub_client

TOKEN = Secret("hf_ada")
TIMEOUT = timedelta(seconds=5)
JOB = {"id": "a" * 24, "status": {"stage": "RUNNING", "message": None}}


@dataclass
class ScriptedHub:
    """A server that gives the answers it was told, in turn, and remembers the requests."""

    url: str = ""
    answers: list[Response] = field(default_factory=list[Response])
    requests: list[Request] = field(default_factory=list[Request])

    async def respond(self, request: Request) -> Response:
        await request.body()
        self.requests.append(request)
        return self.answers.pop(0)


@pytest.fixture
def server() -> Generator[ScriptedHub]:
    scripted = ScriptedHub()
    routes = [Route("/{path:path}", scripted.respond, methods=["GET", "POST"])]
    with _serve_app(Starlette(routes=routes)) as scripted.url:
        yield scripted


@pytest.fixture
async def gateway(server: ScriptedHub) -> AsyncGenerator[HubClient]:
    async with open_hub_client(server.url, server.url) as opened:
        yield opened


@contextmanager
def _serve_app(app: Starlette) -> Generator[str]:
    port = find_free_port()
    config = uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join()


def error_response(status: int, message: str = "no", **headers: str) -> Response:
    said = {"x-error-message": message} | {k.replace("_", "-"): v for k, v in headers.items()}
    return JSONResponse({"error": message}, status, said)


async def create_job(gateway: HubClient) -> Any:
    return await gateway.create_job("ada", {"flavor": "cpu-basic"}, TOKEN, timeout=TIMEOUT)


async def test_a_create_request_carries_the_callers_token_and_no_other(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """The job is launched with the authority of whoever asked, or not at all."""
    server.answers = [JSONResponse(JOB)]

    job = await create_job(gateway)

    (request,) = server.requests
    assert job.id == JOB["id"]
    assert request.headers["authorization"] == "Bearer hf_ada"
    assert (request.method, request.url.path) == ("POST", "/api/jobs/ada")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 409, 301, 307])
async def test_an_unclear_answer_is_ambiguous_and_asked_for_only_once(
    gateway: HubClient, server: ScriptedHub, status: int
) -> None:
    """A second request could be a second job; not even a redirect is followed."""
    server.answers = [error_response(status, location="/elsewhere"), JSONResponse(JOB)]

    with pytest.raises(HubAmbiguous):
        await create_job(gateway)

    assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["", "<html>", '"ok"', "[]", '{"status": {}}', '{"id": ""}'])
async def test_an_answer_without_an_id_is_ambiguous(
    gateway: HubClient, server: ScriptedHub, body: str
) -> None:
    """Something may have been created; a listing will tell."""
    server.answers = [Response(body, media_type="application/json")]

    with pytest.raises(HubAmbiguous):
        await create_job(gateway)


async def test_silence_is_ambiguous_after_the_deadline(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """No call of ours may hang for ever, as the client library's would."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_hub_client(url, url) as deaf:
            with pytest.raises(HubAmbiguous):
                await deaf.create_job("ada", {}, TOKEN, timeout=timedelta(seconds=0.3))


async def test_a_closed_port_was_certainly_not_reached() -> None:
    """Nothing was sent, so trying again is safe."""
    url = f"http://127.0.0.1:{find_free_port()}"
    async with open_hub_client(url, url) as nowhere:
        with pytest.raises(HubUnreachable):
            await create_job(nowhere)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429])
async def test_a_refusal_keeps_the_hubs_words(
    gateway: HubClient, server: ScriptedHub, status: int
) -> None:
    """It is the Hub that knows why; people search for its sentences."""
    server.answers = [error_response(status, "Pre-paid credit balance is insufficient")]

    with pytest.raises(HubRejected) as no:
        await create_job(gateway)

    assert no.value.status == status
    assert "Pre-paid credit balance is insufficient" in no.value.message


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, timedelta(seconds=7)),
        ({"ratelimit": '"api";r=0;t=55'}, timedelta(seconds=55)),
        ({"ratelimit": '"api";r=9;t=55'}, None),
        ({}, None),
    ],
)
async def test_a_spent_budget_says_when_to_return(
    gateway: HubClient, server: ScriptedHub, headers: dict[str, str], wait: timedelta | None
) -> None:
    """Polling on would lock the subject out of everything else they do at the Hub."""
    server.answers = [error_response(429, **headers)]

    with pytest.raises(HubRejected) as no:
        await create_job(gateway)

    assert no.value.retry_after == wait


async def test_a_listing_is_read_to_its_last_page(gateway: HubClient, server: ScriptedHub) -> None:
    """A run on the second page is not absent."""
    more = {"link": f'<{server.url}/api/jobs/ada?cursor=x>; rel="next"'}
    server.answers = [
        JSONResponse([JOB], headers=more),
        JSONResponse([JOB | {"id": "b" * 24}]),
    ]

    jobs = await gateway.list_jobs("ada", TOKEN, label="k=v", stages=("RUNNING",))

    assert [job.id[0] for job in jobs] == ["a", "b"]
    assert server.requests[0].url.query == "label=k%3Dv&stage=RUNNING"
    assert server.requests[1].url.query == "cursor=x"


async def test_one_unreadable_page_makes_a_whole_listing_ambiguous(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """What is on it is not known to be absent."""
    more = {"link": f'<{server.url}/api/jobs/ada?cursor=x>; rel="next"'}
    server.answers = [JSONResponse([JOB], headers=more), error_response(500)]

    with pytest.raises(HubAmbiguous):
        await gateway.list_jobs("ada", TOKEN, label="k=v")


async def test_the_token_is_not_sent_where_a_link_leads_off_the_hub(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """A page could name any host; the token is for the Hub alone."""
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    more = {"link": f'<{elsewhere}/steal>; rel="next"'}
    server.answers = [JSONResponse([JOB], headers=more), JSONResponse([])]

    with pytest.raises(HubAmbiguous):
        await gateway.list_jobs("ada", TOKEN, label="k=v")

    assert len(server.requests) == 1


async def test_a_cookie_given_to_one_caller_does_not_go_along_with_anothers_call(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """One session calls for everybody, and nobody is to be taken for somebody else."""
    known = JSONResponse(JOB)
    known.set_cookie("token", "ada's")
    server.answers = [known, JSONResponse(JOB)]

    await gateway.inspect_job("ada", "a" * 24, TOKEN)
    await gateway.inspect_job("eve", "a" * 24, Secret("hf_eve"))

    assert "cookie" not in server.requests[1].headers


async def test_a_job_the_hub_does_not_know_is_none(gateway: HubClient, server: ScriptedHub) -> None:
    """Gone is an answer; anything else that goes wrong is not."""
    server.answers = [error_response(404), error_response(403)]

    assert await gateway.inspect_job("ada", "a" * 24, TOKEN) is None
    with pytest.raises(HubRejected):
        await gateway.inspect_job("ada", "a" * 24, TOKEN)


async def test_a_log_is_read_without_the_hubs_own_lines(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """They are about the job, and not what its command printed."""
    said = ["===== Job started at 2026-11-21 =====", "one", "two", "three"]

    async def stream() -> AsyncGenerator[str]:
        for text in said:
            yield f"data: {json.dumps({'data': text, 'timestamp': '2026-11-21T00:00:00Z'})}\n\n"
            yield ": keep-alive\n\n"

    server.answers = [StreamingResponse(stream(), media_type="text/event-stream")]

    log = gateway.stream_log("ada", "a" * 24, TOKEN, max_line_chars=100, is_finished=True)
    assert [line async for lines in log for line in lines] == ["one", "two", "three"]


async def test_what_cannot_be_stored_is_replaced_wherever_the_hub_says_it(
    gateway: HubClient, server: ScriptedHub
) -> None:
    """JSON carries characters that Postgres refuses; none may keep an outcome from being kept."""
    server.answers = [
        JSONResponse(JOB | {"status": {"stage": "ERROR", "message": "a\0b"}}),
        JSONResponse({"error": "a\0b"}, 400),
    ]

    job = await create_job(gateway)
    with pytest.raises(HubRejected, match="a\ufffdb"):
        await create_job(gateway)

    assert job.status is not None
    assert job.status.message == "a\ufffdb"
