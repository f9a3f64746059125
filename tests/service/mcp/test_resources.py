"""What a person attaches to a conversation: a job, its log, a workspace, each by its address."""

import json
import re
from typing import Any

import pytest
from mcp_types import INTERNAL_ERROR, ResourceLink

from schema.common import ids
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from service.jobs.logs import MAX_PAGE_BYTES
from service.local.ports import find_free_port
from service.runtime.context import HELP_URI
from tests.support.factories import JobFactory, StartService
from tests.support.jobs.handles import job_handle, job_uri
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    post_message,
)
from tests.support.mcp.observed_answers import ProtocolVariant, send_message
from tests.support.subjects import ADA_TOKEN

COMMAND = ["python", "-c", "print(1)"]


async def read_resource(
    url: str,
    uri: str,
    *,
    caller_token: str = ADA_TOKEN,
    variant: ProtocolVariant = ProtocolVariant.MODERN,
) -> dict[str, Any]:
    """Read one resource that is there."""
    answer = json.loads(
        (await send_message(url, variant, "resources/read", {"uri": uri}, caller_token)).body
    )
    [content] = answer["result"]["contents"]
    assert content["uri"] == uri
    contents: dict[str, Any] = content
    return contents


async def make_finished_job(database: Database, make_job: JobFactory, *lines: str) -> str:
    """Have a job print lines and succeed; return its address."""
    job, worker = await make_job(), RunDriver(database)
    run_id = await worker.start_run()
    await worker.append_log(run_id, *lines)
    await worker.end_run(run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"))
    return job_uri(job.id)


async def test_a_launch_links_to_what_can_be_attached(service_url: str) -> None:
    """A host shows the link; whoever opens it sees what job_status would say."""
    launched = await call_tool(service_url, "launch_job", image="python:3.12", command=COMMAND)
    looked = await call_tool(
        service_url, "job_status", job_ids=[launched.structured_content["job_id"]]
    )

    for answer in (launched, looked):
        [link] = [part for part in answer.content if isinstance(part, ResourceLink)]
        async with open_mcp_client(service_url) as client:
            [content] = (await client.read_resource(link.uri)).contents
        view = json.loads(content.model_dump()["text"])
        assert view["job_id"] == link.name == launched.structured_content["job_id"]
        assert view["state"] == "queued"


@pytest.mark.parametrize(
    ("version", "links"), [("", 0), ("2025-03-26", 0), ("2025-06-18", 1), ("2025-11-25", 1)]
)
async def test_a_client_that_knows_no_links_is_sent_none(
    service_url: str, version: str, links: int
) -> None:
    """An older one fails on the whole answer, and its model never learns the handle."""
    arguments = {"image": "python:3.12", "command": COMMAND}
    params = {"name": "launch_job", "arguments": arguments}
    answer = await post_message(service_url, "tools/call", params, mcp_protocol_version=version)

    kinds = [part["type"] for part in answer.json()["result"]["content"]]
    assert kinds == ["text", *["resource_link"] * links]


@pytest.mark.parametrize("way", [ProtocolVariant.LEGACY, ProtocolVariant.MODERN])
async def test_a_job_reads_as_its_status(
    service_url: str, database: Database, make_job: JobFactory, way: ProtocolVariant
) -> None:
    """The same object as a tool shows, evidence of a failure and all."""
    handle = job_handle((await make_job_with_history(RunDriver(database), make_job, "failed")).id)
    [status] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    async with open_mcp_client(
        service_url, mode="legacy" if way is ProtocolVariant.LEGACY else "auto"
    ) as client:
        [content] = (await client.read_resource(f"job://{handle}")).contents
    view = json.loads(content.model_dump()["text"])

    assert content.mime_type == "application/json"
    assert view["log_tail"] == ["a line"]
    assert {**view, "status_as_of": ""} == {**status, "status_as_of": ""}


async def test_a_log_reads_as_it_was_printed(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Text, for a person to look at as much as for a model."""
    uri = await make_finished_job(database, make_job, "one", "", "three")

    content = await read_resource(service_url, f"{uri}/logs")

    assert (content["mimeType"], content["text"]) == ("text/plain", "one\n\nthree")


async def test_a_long_log_shows_its_end_and_says_so(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """What is attached goes into a conversation whole, so it has to have an end."""
    lines = [f"{number:04} {'x' * 95}" for number in range(1000)]
    uri = await make_finished_job(database, make_job, *lines)

    first, *shown_lines = (await read_resource(service_url, f"{uri}/logs"))["text"].split("\n")

    assert len("\n".join(shown_lines)) <= MAX_PAGE_BYTES
    assert shown_lines == lines[-len(shown_lines) :]
    assert len(shown_lines) > 250
    assert first.startswith(f"[{1000 - len(shown_lines)} lines before: job_logs(job_id=")


async def test_a_line_that_is_too_long_is_cut(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A progress bar without an end of line is no reason to show nothing."""
    uri = await make_finished_job(database, make_job, "first", "y" * 100_000)

    content = await read_resource(service_url, f"{uri}/logs")

    assert len(content["text"]) < 65_000
    assert re.search(r"yyy … \[[^]]*cut[^]]*\] … yyy", content["text"])


async def test_a_workspace_reads_with_its_newest_jobs(service_url: str) -> None:
    """One attachment says what a piece of work has come to."""
    made = await call_for_result(service_url, "create_workspace", name="llama")
    workspace = made["workspace_id"]
    launched = [
        (
            await call_for_result(
                service_url, "launch_job", image=f"i{n}", command="c", workspace_id=workspace
            )
        )["job_id"]
        for n in range(7)
    ]
    await call_for_result(service_url, "launch_job", image="elsewhere", command="c")

    view = json.loads((await read_resource(service_url, f"workspace://{workspace}"))["text"])

    status = await call_for_result(service_url, "workspace_status", workspace_id=workspace)
    assert view.keys() == status.keys()
    assert (view["name"], view["jobs"]) == ("llama", 7)
    assert [job["job_id"] for job in view["latest_jobs"]] == launched[:-6:-1]


async def test_the_newest_jobs_are_listed(service_url: str, make_job: JobFactory) -> None:
    """A person picks what they want to talk about; the list stays one short page."""
    made = sorted([await make_job() for _ in range(22)], key=lambda job: job.id)

    for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
        answer = await send_message(service_url, way, "resources/list", {}, ADA_TOKEN)
        result = json.loads(answer.body)["result"]
        newest = [job_uri(job.id) for job in reversed(made)]
        assert [each["uri"] for each in result["resources"]] == [*newest[:20], HELP_URI]
        assert result["resources"][0]["title"] == made[-1].title
        assert "nextCursor" not in result


async def test_nothing_that_was_read_is_kept_for_somebody_else(
    service_url: str, make_job: JobFactory
) -> None:
    """A cache in between must not answer Bob with what it answered Ada."""
    handle = job_handle((await make_job()).id)
    requests: list[tuple[str, dict[str, Any]]] = [
        ("resources/read", {"uri": f"job://{handle}"}),
        *((f"{what}/list", {}) for what in ("resources", "resources/templates", "prompts")),
    ]

    for method, params in requests:
        answer = await send_message(service_url, ProtocolVariant.MODERN, method, params, ADA_TOKEN)
        assert json.loads(answer.body)["result"]["cacheScope"] == "private", method


async def test_a_token_that_may_only_read_reads_its_own(
    service_url: str, make_job: JobFactory
) -> None:
    """To look takes no scope."""
    handle = job_handle((await make_job()).id)

    assert (
        handle
        in (await read_resource(service_url, f"job://{handle}", caller_token="hf_reader"))["text"]
    )


async def test_a_database_that_is_away_is_no_missing_resource(start_service: StartService) -> None:
    """A host that is told there is none would forget the address."""
    nowhere = f"postgresql://u:p@127.0.0.1:{find_free_port()}/d"
    uri = job_uri(ids.new_id())
    with start_service(HOLDFAST_DATABASE_URL=nowhere) as url:
        errors = [
            (await post_message(url, method, params)).json()["error"]
            for method, params in (
                ("resources/read", {"uri": uri}),
                ("resources/list", {}),
                ("prompts/get", {"name": "diagnose_job", "arguments": {"job_id": uri[6:]}}),
            )
        ]

    for error in errors:
        assert error["code"] == INTERNAL_ERROR
        assert "Try the same call again" in error["message"]


async def test_a_read_counts_as_a_call(start_service: StartService) -> None:
    """Or a client could ask by address what it may no longer ask by tool."""
    uri = job_uri(ids.new_id())
    with start_service(calls_per_minute=2, HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as url:
        requests: list[tuple[str, dict[str, Any]]] = [
            ("resources/read", {"uri": uri}),
            ("prompts/list", {}),
            ("resources/list", {}),
        ]
        statuses = [
            (await post_message(url, method, params)).status_code for method, params in requests
        ]

    assert statuses == [200, 200, 429]


async def test_who_has_not_signed_in_sees_what_there_is_and_nothing_of_anybodys(
    service_url: str, make_job: JobFactory
) -> None:
    """The lists are open, and a read leads to the sign-in."""
    handle = job_handle((await make_job()).id)
    ref = {"type": "ref/resource", "uri": "job://{id}"}
    hint = {"ref": ref, "argument": {"name": "id", "value": ""}}
    listed = await post_message(service_url, "resources/list", authorization="")
    prompts = await post_message(service_url, "prompts/list", authorization="")
    refused = [
        await post_message(service_url, method, params, authorization="")
        for method, params in (
            ("resources/read", {"uri": f"job://{handle}"}),
            ("prompts/get", {"name": "diagnose_job", "arguments": {"job_id": handle}}),
            ("completion/complete", hint),
        )
    ]

    assert [each["uri"] for each in listed.json()["result"]["resources"]] == [HELP_URI]
    assert len(prompts.json()["result"]["prompts"]) == 3
    assert [response.status_code for response in refused] == [401, 401, 401]


async def test_the_words_of_a_launch_are_as_before(service_url: str) -> None:
    """The link stands beside the sentence that a model reads, and takes nothing from it."""
    answer = await call_tool(service_url, "launch_job", image="python:3.12", command=COMMAND)

    assert answer_text(answer).startswith(f"{answer.structured_content['job_id']}: Queued")
