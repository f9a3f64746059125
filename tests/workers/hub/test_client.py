"""The way to the Hub, against a scripted_hub that answers in every way the Hub might."""

import json
import socket
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from schema.accounts.vault import Secret
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from service.local.ports import find_free_port
from tests.support.hub.scripted_hub import ScriptedHub, error_response
from workers.hub.client import HubJobsClient, open_hub_jobs_client

TOKEN = Secret("hf_ada")
TIMEOUT = timedelta(seconds=5)
JOB = {"id": "a" * 24, "status": {"stage": "RUNNING", "message": None}}


@pytest.fixture
async def hub_client(scripted_hub: ScriptedHub) -> AsyncGenerator[HubJobsClient]:
    async with open_hub_jobs_client(scripted_hub.url, scripted_hub.url) as opened:
        yield opened


async def create_job(gateway: HubJobsClient) -> Any:
    return await gateway.create_job("ada", {"flavor": "cpu-basic"}, TOKEN, timeout=TIMEOUT)


async def test_a_create_request_carries_the_callers_token_and_no_other(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """The job is launched with the authority of whoever asked, or not at all."""
    scripted_hub.answers = [JSONResponse(JOB)]

    job = await create_job(hub_client)

    (request,) = scripted_hub.requests
    assert job.id == JOB["id"]
    assert request.headers["authorization"] == "Bearer hf_ada"
    assert (request.method, request.url.path) == ("POST", "/api/jobs/ada")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 409, 301, 307])
async def test_an_unclear_answer_is_ambiguous_and_asked_for_only_once(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub, status: int
) -> None:
    """A second request could be a second job; not even a redirect is followed."""
    scripted_hub.answers = [error_response(status, location="/elsewhere"), JSONResponse(JOB)]

    with pytest.raises(HubAmbiguous):
        await create_job(hub_client)

    assert len(scripted_hub.requests) == 1


@pytest.mark.parametrize("body", ["", "<html>", '"ok"', "[]", '{"status": {}}', '{"id": ""}'])
async def test_an_answer_without_an_id_is_ambiguous(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub, body: str
) -> None:
    """Something may have been created; a listing will tell."""
    scripted_hub.answers = [Response(body, media_type="application/json")]

    with pytest.raises(HubAmbiguous):
        await create_job(hub_client)


async def test_silence_is_ambiguous_after_the_deadline(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """No call of ours may hang for ever, as the client library's would."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_hub_jobs_client(url, url) as deaf:
            with pytest.raises(HubAmbiguous):
                await deaf.create_job("ada", {}, TOKEN, timeout=timedelta(seconds=0.3))


async def test_a_closed_port_was_certainly_not_reached() -> None:
    """Nothing was sent, so trying again is safe."""
    url = f"http://127.0.0.1:{find_free_port()}"
    async with open_hub_jobs_client(url, url) as nowhere:
        with pytest.raises(HubUnreachable):
            await create_job(nowhere)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429])
async def test_a_refusal_keeps_the_hubs_words(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub, status: int
) -> None:
    """It is the Hub that knows why; people search for its sentences."""
    scripted_hub.answers = [error_response(status, "Pre-paid credit balance is insufficient")]

    with pytest.raises(HubRejected) as no:
        await create_job(hub_client)

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
    hub_client: HubJobsClient,
    scripted_hub: ScriptedHub,
    headers: dict[str, str],
    wait: timedelta | None,
) -> None:
    """Polling on would lock the subject out of everything else they do at the Hub."""
    scripted_hub.answers = [error_response(429, **headers)]

    with pytest.raises(HubRejected) as no:
        await create_job(hub_client)

    assert no.value.retry_after == wait


async def test_a_listing_is_read_to_its_last_page(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """A run on the second page is not absent."""
    more = {"link": f'<{scripted_hub.url}/api/jobs/ada?cursor=x>; rel="next"'}
    scripted_hub.answers = [
        JSONResponse([JOB], headers=more),
        JSONResponse([JOB | {"id": "b" * 24}]),
    ]

    jobs = await hub_client.list_jobs("ada", TOKEN, label="k=v", stages=("RUNNING",))

    assert [job.id[0] for job in jobs] == ["a", "b"]
    assert scripted_hub.requests[0].url.query == "label=k%3Dv&stage=RUNNING"
    assert scripted_hub.requests[1].url.query == "cursor=x"


async def test_one_unreadable_page_makes_a_whole_listing_ambiguous(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """What is on it is not known to be absent."""
    more = {"link": f'<{scripted_hub.url}/api/jobs/ada?cursor=x>; rel="next"'}
    scripted_hub.answers = [JSONResponse([JOB], headers=more), error_response(500)]

    with pytest.raises(HubAmbiguous):
        await hub_client.list_jobs("ada", TOKEN, label="k=v")


async def test_the_token_is_not_sent_where_a_link_leads_off_the_hub(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """A page could name any host; the token is for the Hub alone."""
    elsewhere = scripted_hub.url.replace("127.0.0.1", "localhost")
    more = {"link": f'<{elsewhere}/steal>; rel="next"'}
    scripted_hub.answers = [JSONResponse([JOB], headers=more), JSONResponse([])]

    with pytest.raises(HubAmbiguous):
        await hub_client.list_jobs("ada", TOKEN, label="k=v")

    assert len(scripted_hub.requests) == 1


async def test_a_cookie_given_to_one_caller_does_not_go_along_with_anothers_call(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """One session calls for everybody, and nobody is to be taken for somebody else."""
    known = JSONResponse(JOB)
    known.set_cookie("token", "ada's")
    scripted_hub.answers = [known, JSONResponse(JOB)]

    await hub_client.inspect_job("ada", "a" * 24, TOKEN)
    await hub_client.inspect_job("eve", "a" * 24, Secret("hf_eve"))

    assert "cookie" not in scripted_hub.requests[1].headers


async def test_a_job_the_hub_does_not_know_is_none(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """Gone is an answer; anything else that goes wrong is not."""
    scripted_hub.answers = [error_response(404), error_response(403)]

    assert await hub_client.inspect_job("ada", "a" * 24, TOKEN) is None
    with pytest.raises(HubRejected):
        await hub_client.inspect_job("ada", "a" * 24, TOKEN)


async def test_a_log_is_read_without_the_hubs_own_lines(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """They are about the job, and not what its command printed."""
    streamed_lines = ["===== Job started at 2026-11-21 =====", "one", "two", "three"]

    async def stream() -> AsyncGenerator[str]:
        for text in streamed_lines:
            yield f"data: {json.dumps({'data': text, 'timestamp': '2026-11-21T00:00:00Z'})}\n\n"
            yield ": keep-alive\n\n"

    scripted_hub.answers = [StreamingResponse(stream(), media_type="text/event-stream")]

    log = hub_client.stream_log("ada", "a" * 24, TOKEN, max_line_chars=100, is_finished=True)
    assert [line async for lines in log for line in lines] == ["one", "two", "three"]


async def test_what_cannot_be_stored_is_replaced_wherever_the_hub_says_it(
    hub_client: HubJobsClient, scripted_hub: ScriptedHub
) -> None:
    """JSON carries characters that Postgres refuses; none may keep an outcome from being kept."""
    scripted_hub.answers = [
        JSONResponse(JOB | {"status": {"stage": "ERROR", "message": "a\0b"}}),
        JSONResponse({"error": "a\0b"}, 400),
    ]

    job = await create_job(hub_client)
    with pytest.raises(HubRejected, match="a\ufffdb"):
        await create_job(hub_client)

    assert job.status is not None
    assert job.status.message == "a\ufffdb"
