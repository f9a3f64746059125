"""The job tools, driven the way clients drive them: over HTTP, by the SDK's client and without."""

import json
from typing import Any

import pytest

from schema.common import ids
from schema.db.database import Database
from service.local.ports import find_free_port
from tests.support.factories import FailFirstCommit, JobFactory, StartService
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    post_message,
    read_refusal,
)
from tests.support.mcp.observed_answers import ObservedAnswer
from tests.support.subjects import ADA_ID

COMMAND = ["python", "-c", "print(1)"]


async def test_a_launch_answers_with_a_handle_that_is_already_durable(
    service_url: str, database: Database
) -> None:
    """What was answered cannot be lost: the row is there, under the verified subject."""
    view = await call_for_result(
        service_url, "launch_job", image="python:3.12", command=COMMAND, name="hello"
    )

    async with database.transaction() as tx:
        row = await tx.fetchrow("SELECT * FROM job")
    assert row is not None
    assert view["job_id"] == job_handle(row["id"])
    assert (row["subject_id"], row["state"], row["namespace"]) == (ADA_ID, "queued", "ada")
    assert view["title"] == "hello"
    assert view["poll_after_seconds"] == 2
    assert f'wait_for_jobs(job_ids="{view["job_id"]}", until="terminal")' in view["next_step"]


async def test_without_redis_a_launch_is_as_durable_as_ever(start_service: StartService) -> None:
    """Redis only wakes workers; the sweep finds what no wake-up announced."""
    with start_service(HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as url:
        launched = await call_for_result(url, "launch_job", image="python:3.12", command=COMMAND)
        [read] = (await call_for_result(url, "job_status", job_ids=launched["job_id"]))["jobs"]

    assert (launched["state"], read["state"]) == ("queued", "queued")


async def test_both_eras_of_the_protocol_get_the_same_answer(service_url: str) -> None:
    """Most hosts still speak the legacy protocol; none is to be served worse."""
    handle = (
        await call_for_result(service_url, "launch_job", image="python:3.12", command="true")
    )["job_id"]

    arguments: dict[str, Any] = {"job_ids": [handle]}
    modern = await call_for_result(service_url, "job_status", **arguments)
    response = await post_message(
        service_url, "tools/call", {"name": "job_status", "arguments": arguments}
    )
    async with open_mcp_client(service_url, mode="legacy") as client:
        handshaken = (await client.call_tool("job_status", arguments)).structured_content

    bare = response.json()["result"]["structuredContent"]
    for answer in (modern, bare, handshaken):
        assert answer is not None
        del answer["jobs"][0]["status_as_of"]
    assert modern == bare == handshaken


async def test_an_unknown_argument_is_refused_by_name(service_url: str) -> None:
    """An argument that was silently dropped would launch something else than was asked for."""
    answer = await call_tool(
        service_url, "launch_job", image="python:3.12", command="true", flavour="t4"
    )

    assert read_refusal(answer)["code"] == "Invalid"
    assert "There is no argument flavour; did you mean flavor?" in answer_text(answer)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"timeout": 0}, "timeout: 0 is not positive"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration; write seconds (3600)"),
        ({"flavor": "A10G!"}, "is not a hardware flavor"),
        ({"command": "echo a | wc"}, "no shell runs this"),
        ({"command": []}, "command: a command has at least 1 word"),
        ({"command": 5}, "command: input should be a valid"),
        ({"env": {"HOLDFAST_RUN": "x"}}, "is reserved"),
        ({"labels": {"a b": "c"}}, "is not a label the Hub takes"),
        ({"image": "a\0b"}, "image contains a NUL character"),
    ],
)
async def test_a_wrong_argument_is_answered_with_what_to_write(
    service_url: str, wrong: dict[str, Any], message: str
) -> None:
    """A model corrects itself from one sentence, and nothing was launched."""
    arguments: dict[str, Any] = {"image": "python:3.12", "command": COMMAND}
    answer = await call_tool(service_url, "launch_job", **arguments | wrong)

    assert read_refusal(answer)["code"] == "Invalid"
    assert message in answer_text(answer)
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": "SESAME"},
        {"secrets": ["SESAME"]},
        {"secrets": {"KEY": ["SESAME"]}},
        {"secrets": {"KEY": "SESAME" * 2000}},
        {"pass_token": "SESAME"},
    ],
)
async def test_a_secret_that_is_written_wrong_is_not_repeated(
    service_url: str, wrong: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """An answer is kept in more places than an argument: transcripts, logs of clients, tickets."""
    answer = await call_tool(
        service_url, "launch_job", image="python:3.12", command="true", **wrong
    )

    assert read_refusal(answer)["code"] == "Invalid"
    assert answer_text(answer).startswith(next(iter(wrong)))
    assert "SESAME" not in answer.model_dump_json()
    assert "SESAME" not in capfd.readouterr().err


async def test_a_missing_argument_is_named(service_url: str) -> None:
    """The commonest slip has the shortest answer."""
    assert "give command, and its image, or script." in answer_text(
        await call_tool(service_url, "launch_job", image="python:3.12")
    )


async def test_a_handle_of_another_kind_says_which_kind_was_expected(service_url: str) -> None:
    """Handles look alike to a model; the answer says which one goes here."""
    workspace = (await call_for_result(service_url, "create_workspace", name="tests"))[
        "workspace_id"
    ]

    answer = await call_tool(service_url, "job_status", job_ids=workspace)

    assert "is a workspace handle; a job handle (job_…) goes here" in answer_text(answer)


async def test_a_foreign_job_is_not_told_from_one_that_does_not_exist(service_url: str) -> None:
    """Whoever guesses or steals a handle learns nothing from any tool."""
    foreign = (
        await call_for_result(service_url, "launch_job", image="python:3.12", command="true")
    )["job_id"]
    nobodys = job_handle(ids.new_id())

    for tool, argument in (
        ("job_status", "job_ids"),
        ("job_logs", "job_id"),
        ("job_result", "job_id"),
        ("cancel_job", "job_id"),
    ):
        params = [{"name": tool, "arguments": {argument: each}} for each in (foreign, nobodys)]
        answers = [
            await post_message(service_url, "tools/call", each, authorization="Bearer hf_bob")
            for each in params
        ]
        assert answers[0].json()["result"]["isError"]
        refusals = [ObservedAnswer.from_response(answer).without_handles() for answer in answers]
        assert refusals[0] == refusals[1]
    assert (await call_for_result(service_url, "list_jobs", caller_token="hf_bob"))["jobs"] == []


async def test_the_same_key_and_request_are_the_same_job(service_url: str) -> None:
    """A client that lost the answer repeats its call, and nothing runs twice."""
    request: dict[str, Any] = {"image": "python:3.12", "command": COMMAND, "idempotency_key": "k"}
    first = await call_for_result(service_url, "launch_job", **request)
    again = await call_for_result(service_url, "launch_job", **request)

    assert first["job_id"] == again["job_id"]


async def test_the_same_key_with_another_request_names_what_differs(service_url: str) -> None:
    """Two meanings under one key is a mistake that only its maker can resolve."""
    request: dict[str, Any] = {"image": "python:3.12", "command": COMMAND, "idempotency_key": "k"}
    await call_for_result(service_url, "launch_job", **request)

    other: dict[str, Any] = {"flavor": "t4-small", "timeout": 60}
    answer = await call_tool(service_url, "launch_job", **request | other)

    assert read_refusal(answer)["code"] == "IdempotencyConflict"
    assert "differs in flavor, timeout" in answer_text(answer)
    assert len((await call_for_result(service_url, "list_jobs"))["jobs"]) == 1


async def test_the_same_key_with_another_secret_is_another_request(
    service_url: str, database: Database
) -> None:
    """The job would run with a value that its caller has replaced. Neither value is kept open."""
    request: dict[str, Any] = {"command": COMMAND, "idempotency_key": "k"}
    first = await call_for_result(
        service_url, "launch_job", **request, secrets={"A1": "first value", "B1": "x y"}
    )
    again = await call_for_result(
        service_url, "launch_job", **request, secrets={"B1": "x y", "A1": "first value"}
    )
    other = await call_tool(
        service_url, "launch_job", **request, secrets={"A1": "second value", "B1": "x y"}
    )

    assert first["job_id"] == again["job_id"]
    assert read_refusal(other)["code"] == "IdempotencyConflict"
    assert "differs in secrets." in answer_text(other)
    async with database.transaction() as tx:
        digest = await tx.fetchval("SELECT secrets_digest FROM idempotency_key")
    assert digest is not None
    assert "value" not in digest


async def test_a_read_only_token_may_look_but_not_launch(service_url: str) -> None:
    """A token that cannot act at the Hub is told so before a job is queued that cannot run."""
    answer = await call_tool(
        service_url, "launch_job", caller_token="hf_reader", image="python:3.12", command="true"
    )

    assert read_refusal(answer)["code"] == "InsufficientScope"
    assert "read-only" in answer_text(answer)
    assert (await call_for_result(service_url, "list_jobs", caller_token="hf_reader"))["jobs"] == []


async def test_jobs_are_listed_newest_first_page_by_page(
    service_url: str, make_job: JobFactory
) -> None:
    """Every job is on exactly one page, whatever its size."""
    made = [job_handle((await make_job()).id) for _ in range(5)]

    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = await call_for_result(service_url, "list_jobs", limit=2, cursor=cursor)
        listed += [job["job_id"] for job in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert listed == sorted(made, reverse=True)


async def test_a_list_is_narrowed_by_every_filter_given(
    service_url: str, make_job: JobFactory
) -> None:
    """State, kind and labels all have to hold."""
    matching_job = await make_job(labels={"team": "nlp", "run": "1"})
    await make_job(labels={"team": "cv"})

    page = await call_for_result(
        service_url, "list_jobs", labels={"team": "nlp"}, state="queued", kind="hub_job"
    )
    none = await call_for_result(
        service_url, "list_jobs", labels={"team": "nlp"}, state=["running", "failed"]
    )

    assert [job["job_id"] for job in page["jobs"]] == [job_handle(matching_job.id)]
    assert none["jobs"] == []


async def test_several_handles_are_answered_one_by_one(
    service_url: str, make_job: JobFactory
) -> None:
    """One wrong handle spoils only itself."""
    good = job_handle((await make_job()).id)
    nobodys = job_handle(ids.new_id())

    view = await call_for_result(service_url, "job_status", job_ids=[good, nobodys, "nonsense"])

    assert [job["job_id"] for job in view["jobs"]] == [good]
    assert [error["code"] for error in view["errors"]] == ["NotFound", "Invalid"]


async def test_cancelling_twice_gives_the_same_answer(
    service_url: str, make_job: JobFactory
) -> None:
    """A cancel whose answer was lost is repeated without fear."""
    handle = job_handle((await make_job()).id)

    first = await call_tool(service_url, "cancel_job", job_id=handle)
    again = await call_tool(service_url, "cancel_job", job_id=handle)

    assert first.structured_content is not None
    assert (first.structured_content["state"], answer_text(first)) == (
        "cancelled",
        answer_text(again),
    )
    assert "it cost nothing" in answer_text(first)


async def test_an_unknown_tool_is_a_protocol_error(service_url: str) -> None:
    """As the specification says, and unlike what the SDK does by itself."""
    error = (await post_message(service_url, "tools/call", {"name": "rm"})).json()["error"]

    assert (error["code"], error["message"]) == (-32602, "Unknown tool: rm")


@pytest.mark.parametrize("prompt", ['{"a": 1}', "null", "true", "3"])
async def test_a_prompt_that_looks_like_json_stays_a_prompt(
    service_url: str, database: Database, prompt: str
) -> None:
    """The SDK would unpack it, and another text than the caller's would be sent."""
    await call_for_result(service_url, "launch_inference", model="m/m", inputs=prompt)

    async with database.transaction() as tx:
        spec = await tx.fetchval("SELECT spec FROM job_payload")
    assert spec["inputs"] == [{"role": "user", "content": prompt}]


async def test_a_command_that_was_packed_into_json_is_unpacked(service_url: str) -> None:
    """Some clients write every list as a string."""
    view = await call_for_result(
        service_url, "launch_job", image="python:3.12", command='["echo", "a b"]'
    )

    assert view["title"] == "python:3.12: echo 'a b'"


@pytest.mark.parametrize("packed", [True, False])
async def test_a_chat_is_taken_as_it_is_and_packed(
    service_url: str, database: Database, *, packed: bool
) -> None:
    """Only a list can be meant where a prompt or a list of messages is asked for."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    inputs = json.dumps(chat) if packed else chat
    view = await call_for_result(service_url, "launch_inference", model="m/m", inputs=inputs)

    async with database.transaction() as tx:
        spec = await tx.fetchval("SELECT spec FROM job_payload")
    assert spec["inputs"] == chat
    assert view["title"] == "m/m: Hi"


async def test_a_launch_whose_commit_was_lost_is_asked_for_again_under_the_same_id(
    service_url: str, database: Database, fail_first_commit: FailFirstCommit
) -> None:
    """The caller gets a handle, and there is one job, whichever of the two commits made it."""
    await fail_first_commit("job")

    view = await call_for_result(service_url, "launch_job", image="python:3.12", command=COMMAND)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT last_value FROM commits") == 2
        (row,) = await tx.fetch("SELECT id FROM job")
    assert view["job_id"] == job_handle(row["id"])


async def test_a_launch_while_the_database_is_away_says_that_nothing_was_launched(
    start_service: StartService,
) -> None:
    """The model may repeat the call without fear of paying twice."""
    nowhere = f"postgresql://u:p@127.0.0.1:{find_free_port()}/d"
    with start_service(HOLDFAST_DATABASE_URL=nowhere) as url:
        answer = await call_tool(url, "launch_job", image="python:3.12", command=COMMAND)

    assert read_refusal(answer)["code"] == "Unavailable"
    assert "nothing was done" in answer_text(answer)
    assert "Try the same call again" in answer_text(answer)


@pytest.mark.parametrize(
    ("change", "suspected"),
    [
        ({}, True),
        ({"name": "another name"}, True),
        ({"command": ["other"]}, False),
        ({"idempotency_key": "k"}, False),
    ],
)
async def test_the_same_request_without_a_key_is_told_of_the_earlier_one(
    service_url: str, change: dict[str, Any], *, suspected: bool
) -> None:
    """A model that lost track is told before it has paid twice, and told how to undo it."""
    request: dict[str, Any] = {"image": "python:3.12", "command": COMMAND}
    first = await call_for_result(service_url, "launch_job", **request)

    answer = await call_tool(service_url, "launch_job", **request | change)
    view: dict[str, Any] = answer.structured_content

    assert view["job_id"] != first["job_id"]
    assert view["possible_duplicate_of"] == (first["job_id"] if suspected else None)
    assert (f'cancel_job(job_id="{view["job_id"]}")' in answer_text(answer)) is suspected


async def test_a_request_that_was_called_off_is_not_an_earlier_one(service_url: str) -> None:
    """To launch again what was cancelled is no mistake."""
    request: dict[str, Any] = {"image": "python:3.12", "command": COMMAND}
    first = await call_for_result(service_url, "launch_job", **request)
    await call_for_result(service_url, "cancel_job", job_id=first["job_id"])

    again = await call_for_result(service_url, "launch_job", **request)

    assert again["possible_duplicate_of"] is None


async def test_a_launch_over_the_limit_of_open_jobs_is_refused_in_words(
    start_service: StartService,
) -> None:
    """What a model cannot wait out by itself it can tell its person, or cancel."""
    with start_service(open_jobs=1) as url:
        await call_for_result(url, "launch_job", image="python:3.12", command=COMMAND)
        answer = await call_tool(url, "launch_job", image="python:3.12", command=COMMAND)

    assert read_refusal(answer)["code"] == "LimitReached"
    assert "may have 1 at a time" in answer_text(answer)
