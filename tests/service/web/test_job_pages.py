"""The pages of jobs: whose they are, what they show, and that they follow what happens."""

import re
from collections.abc import AsyncGenerator

import anyio
import pytest
from starlette.datastructures import QueryParams

from service.local.hub_emulator.users import LocalTokenKind, find_user
from service.web.job_pages import JobQuery
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.mcp.client import call_for_result, open_mcp_client
from tests.support.oauth.web_person import WebPerson
from tests.support.polling import DEFAULT_TIMEOUT

HANDLE = re.compile(r'href="/jobs/(job_[a-z0-9]+)"')
UNKNOWN = "job_01m8q7hn5aeaps50vz7ck4g7wq"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def token(hub_emulator: HubEmulatorProcess) -> str:
    """What Alice's program sends."""
    return find_user(hub_emulator.users, "alice", LocalTokenKind.WRITE).token


async def launch(url: str, token: str, name: str = "tune") -> str:
    """Launch a job as Alice; no worker runs, so it stays queued."""
    view = await call_for_result(
        url, "launch_job", caller_token=token, image="python:3.12", command=["true"], name=name
    )
    return str(view["job_id"])


async def test_a_job_of_a_program_is_shown_and_its_name_is_text(
    alice: WebPerson, pages_url: str, token: str
) -> None:
    handle = await launch(pages_url, token, f"tune {SCRIPT}")
    await alice.sign_in()

    table, job = await alice.get("/jobs"), await alice.get(f"/jobs/{handle}")

    for page in (table, job):
        assert page.status_code == 200
        assert "tune &lt;script&gt;" in page.text
        assert SCRIPT not in page.text
        assert "queued" in page.text
        assert page.headers["cache-control"] == "no-store"
    assert "Launched" in job.text
    assert 'datetime="' in table.text


async def test_what_is_somebody_elses_does_not_exist(
    alice: WebPerson, bob: WebPerson, pages_url: str, token: str
) -> None:
    """Byte for byte, for each page of it and each form."""
    handle = await launch(pages_url, token)
    await bob.sign_in()
    csrf = await bob.read_csrf_token()

    for suffix in ("", "/events"):
        answers = [await bob.get(f"/jobs/{each}{suffix}") for each in (handle, UNKNOWN, "nonsense")]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert len({answer.content for answer in answers}) == 1
    answers = [
        await bob.post(f"/jobs/{each}/cancel", csrf=csrf) for each in (handle, UNKNOWN, "nonsense")
    ]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert len({answer.content for answer in answers}) == 1
    assert handle not in (await bob.get("/jobs")).text


async def test_a_job_is_cancelled_by_its_own_page_alone(
    alice: WebPerson, bob: WebPerson, pages_url: str, token: str
) -> None:
    handle = await launch(pages_url, token)
    await alice.sign_in()
    await bob.sign_in()
    of_bob = await bob.read_csrf_token()

    refused = [
        await alice.post(f"/jobs/{handle}/cancel"),
        await alice.post(f"/jobs/{handle}/cancel", csrf=of_bob),
    ]
    before = await alice.get(f"/jobs/{handle}")
    own = await alice.read_csrf_token(f"/jobs/{handle}")
    accepted = await alice.post(f"/jobs/{handle}/cancel", csrf=own)
    after = await alice.get(f"/jobs/{handle}")

    assert [answer.status_code for answer in refused] == [403, 403]
    assert "Cancel this job" in before.text
    assert (accepted.status_code, accepted.headers["location"]) == (303, f"/jobs/{handle}")
    assert "Cancel this job" not in after.text
    assert "Cancelled" in after.text


async def test_older_jobs_are_a_link_away_and_a_filter_is_in_the_address(
    alice: WebPerson, pages_url: str, token: str
) -> None:
    async with open_mcp_client(pages_url, token) as client:
        for number in range(27):
            arguments = {"image": "python:3.12", "command": ["true"], "name": f"job {number}"}
            await client.call_tool("launch_job", arguments)
    await alice.sign_in()

    first = await alice.get("/jobs?show=open")
    [older] = re.findall(r'href="([^"]+)" rel="next"', first.text)
    second = await alice.get(older.replace("&amp;", "&"))
    none = await alice.get("/jobs?show=failed&kind=inference")

    assert "show=open" in older
    assert (len(HANDLE.findall(first.text)), len(HANDLE.findall(second.text))) == (25, 2)
    assert not {*HANDLE.findall(first.text)} & {*HANDLE.findall(second.text)}
    assert HANDLE.findall(none.text) == []
    assert "No job matches" in none.text


async def read_events(person: WebPerson, path: str) -> AsyncGenerator[str]:
    """Yield the data of the events of a page as they come."""
    async with person.http.stream("GET", f"{person.service_url}{path}") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        data: list[str] = []
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                data.append(line.removeprefix("data: "))
            elif not line and data:
                yield "\n".join(data)
                data = []


@pytest.mark.parametrize("path", ["/jobs/events", "/jobs/{handle}/events"])
async def test_a_page_is_told_of_a_change(
    alice: WebPerson, pages_url: str, token: str, path: str
) -> None:
    handle = await launch(pages_url, token)
    await alice.sign_in()

    with anyio.fail_after(DEFAULT_TIMEOUT.total_seconds()):
        events = read_events(alice, path.format(handle=handle))
        first = await anext(events)
        await call_for_result(pages_url, "cancel_job", caller_token=token, job_id=handle)
        later = await anext(events)
        while "#state-cancelled" not in later:
            later = await anext(events)
        await events.aclose()

    assert "#state-queued" in first


def test_words_that_nobody_knows_choose_everything() -> None:
    query = JobQuery.from_parameters(QueryParams("show=nonsense&kind=nonsense&before="))

    assert (query.choice, query.kind, query.before, query.link()) == ("all", None, None, "/jobs")
