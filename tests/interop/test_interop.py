"""The same journey through every client, at both eras of the protocol."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.interop import interop_page, node_packages
from tests.interop.client_processes import CLIENTS, ClientSpec, InspectorClient
from tests.interop.journey import (
    LOG_LINE,
    STEPS,
    UNKNOWN_JOB_ID,
    Journey,
    read_job_view,
    run_journey,
)
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.stack import McpCaller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]

VOLATILE_FIELDS = {"poll_after_seconds", "status_as_of", "summary"}
"""What may differ between two looks at a job that has not changed."""
MAX_CONCURRENT_CLIENTS = 4


@pytest.fixture(scope="session")
def journeys(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[ClientSpec, Journey]:
    """The walk of every client, each with the same idempotency key."""
    connection = Connection(stack.url, load_users(stack.folder / "hub")[0].token)
    key = f"interop-{uuid4()}"
    node_packages.install_packages()  # before the first is timed

    def go(client: ClientSpec) -> Journey:
        try:
            with client.open(connection, tmp_path_factory.mktemp("home")) as talker:
                return run_journey(talker, key)
        except Exception as error:
            error.add_note(
                f"This was {client.package} {client.version} at {client.protocol_version}."
            )
            raise

    with ThreadPoolExecutor(MAX_CONCURRENT_CLIENTS) as pool:
        return dict(zip(CLIENTS, pool.map(go, CLIENTS), strict=True))


def test_every_client_speaks_the_newest_version_it_knows(
    journeys: dict[ClientSpec, Journey],
) -> None:
    """And finds out who we are and what we can do."""
    spoken = {client: journey.version for client, journey in journeys.items()}
    assert spoken == {client: client.protocol_version for client in CLIENTS}
    assert {journey.server for journey in journeys.values()} == {"holdfast"}
    assert len({tuple(journey.tools) for journey in journeys.values()}) == 1


def test_every_client_launches_and_sees_the_same_job(journeys: dict[ClientSpec, Journey]) -> None:
    """A person changes clients; the work stays theirs, and stays one."""
    jobs = {client: journey.launched.structured["job_id"] for client, journey in journeys.items()}
    assert len(set(jobs.values())) == 1, jobs
    last, *others = [
        {
            field: value
            for field, value in read_job_view(journey.finished).items()
            if field not in VOLATILE_FIELDS
        }
        for journey in journeys.values()
    ]
    assert last["state"] == "succeeded"
    assert all(other == last for other in others), (last, others)


def test_every_client_reads_what_the_job_left(journeys: dict[ClientSpec, Journey]) -> None:
    """As words for the model, and as an object for programs."""
    for client, journey in journeys.items():
        assert LOG_LINE in journey.log.text, client
        assert [line["text"] for line in journey.log.structured["lines"]] == [LOG_LINE], client
        assert journey.result.structured["exit_code"] == 0, client
    assert len({journey.result.text for journey in journeys.values()}) == 1


def test_every_client_cancels(journeys: dict[ClientSpec, Journey]) -> None:
    """Each a job of its own, which was to run for ten minutes."""
    cancelled = [journey.cancelled.structured for journey in journeys.values()]
    assert {job["state"] for job in cancelled} == {"cancelled"}
    assert len({job["job_id"] for job in cancelled}) == len(CLIENTS)


def test_every_client_is_told_the_same_when_a_call_fails(
    journeys: dict[ClientSpec, Journey],
) -> None:
    """An error is an answer that a model can act on, and no client chokes on its shape."""
    refused = [journey.refused for journey in journeys.values()]
    corrected = [journey.corrected for journey in journeys.values()]
    assert all(seen.failed for seen in (*refused, *corrected))
    assert len({seen.text for seen in refused}) == len({seen.text for seen in corrected}) == 1
    assert UNKNOWN_JOB_ID in refused[0].text
    assert "A correct call: launch_job" in corrected[0].text


def test_the_page_names_the_clients_that_were_run(journeys: dict[ClientSpec, Journey]) -> None:
    """What is promised in docs/interop.md is what has just been done."""
    rows = [("client", "package", "version", "protocol", *STEPS)]
    rows += [("---",) * len(rows[0])]
    for client, journey in journeys.items():
        outcome = ("yes" if succeeded(journey) else "no" for succeeded in STEPS.values())
        who = (client.name, f"`{client.package}`", client.version, journey.version)
        rows.append((*who, *outcome))
    interop_page.check_section("clients", "\n".join(f"| {' | '.join(row)} |" for row in rows))


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_whatever_there_is(era: str, alice: McpCaller, tmp_path: Path) -> None:
    """Resources, templates and prompts as well as tools, whose schemas it reads strictly."""
    inspector = InspectorClient(era, alice.connection, tmp_path)

    assert "launch_job" in inspector.tools
    assert isinstance(inspector.call_method("resources/list")["resources"], list)
    assert isinstance(inspector.call_method("resources/templates/list")["resourceTemplates"], list)
    assert isinstance(inspector.call_method("prompts/list")["prompts"], list)


async def test_a_bare_request_needs_no_handshake(alice: McpCaller) -> None:
    """Nothing is remembered between requests, so any process can answer any of them."""
    handle = await alice.launch("true")
    finished = await alice.wait_until_finished(handle)
    call = {"name": "job_status", "arguments": {"job_ids": [handle]}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {**alice.connection.headers, "Accept": "application/json, text/event-stream"}

    async with AsyncHttpClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http:
        response = await http.post(alice.connection.endpoint, json=request)

    assert response.status_code == httpx2.codes.OK, response.text
    (seen,) = response.json()["result"]["structuredContent"]["jobs"]
    assert {field: seen[field] for field in seen.keys() - VOLATILE_FIELDS} == {
        field: finished[field] for field in finished.keys() - VOLATILE_FIELDS
    }
