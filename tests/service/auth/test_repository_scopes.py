"""What a launch reads and writes at the Hub needs scopes, which are asked for before it is made."""

from typing import Any

import pytest

from schema.db.database import Database
from tests.service.auth.test_scopes import add_fine_grained_token, add_oauth_token, count_jobs
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import answer_text, call_tool, post_message, read_refusal

JOB: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
PRIVATE = "hf://datasets/ada/private"
PUBLIC = "hf://datasets/ada/public"
CALL: dict[str, Any] = {"model": "m"}
PRIVATE_FILE = {"task": "automatic-speech-recognition", "inputs": {"url": f"{PRIVATE}/a.wav"}}

NEEDS: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("plain", "launch_job", JOB, {"jobs"}),
    ("outputs", "launch_job", {**JOB, "outputs": ["a"]}, {"jobs", "contribute-repos"}),
    ("one output", "launch_job", {**JOB, "outputs": "a"}, {"jobs", "contribute-repos"}),
    ("no outputs", "launch_job", {**JOB, "outputs": []}, {"jobs"}),
    ("private", "launch_job", {**JOB, "volumes": [f"{PRIVATE}:/d"]}, {"jobs", "read-repos"}),
    ("public", "launch_job", {**JOB, "volumes": [f"{PUBLIC}:/d"]}, {"jobs"}),
    (
        "written bucket",
        "launch_job",
        {**JOB, "volumes": ["hf://buckets/ada/b:/d"]},
        {"jobs", "contribute-repos"},
    ),
    (
        "private image",
        "launch_job",
        {**JOB, "image": "hf.co/spaces/nobody/app"},
        {"jobs", "read-repos"},
    ),
    (
        "both",
        "launch_job",
        {**JOB, "volumes": [f"{PRIVATE}:/d"], "outputs": ["a"]},
        {"jobs", "contribute-repos", "read-repos"},
    ),
    ("text", "launch_inference", {**CALL, "inputs": f"{PRIVATE}/a.txt"}, {"inference-api"}),
    ("file", "launch_inference", {**CALL, **PRIVATE_FILE}, {"inference-api", "read-repos"}),
    (
        "items",
        "launch_inference",
        {**CALL, "items_from": f"{PRIVATE}/a.jsonl"},
        {"inference-api", "read-repos"},
    ),
    ("public items", "launch_inference", {**CALL, "items_from": f"{PUBLIC}/a"}, {"inference-api"}),
    (
        "file of an item",
        "launch_inference",
        {
            **CALL,
            "task": PRIVATE_FILE["task"],
            "items": [{"custom_id": "1", "inputs": PRIVATE_FILE["inputs"]}],
        },
        {"inference-api", "read-repos"},
    ),
    (
        "address alone",
        "launch_inference",
        {**CALL, "task": PRIVATE_FILE["task"], "inputs": f"{PRIVATE}/a.wav"},
        {"inference-api", "read-repos"},
    ),
    (
        "file for a Space",
        "launch_space_call",
        {"space": "ada/asleep", "arguments": [[f"{PRIVATE}/a.wav"]]},
        {"inference-api", "read-repos"},
    ),
    ("script", "launch_job", {"script": f"{PRIVATE}/a.py"}, {"jobs", "read-repos"}),
    (
        "private Space",
        "launch_space_call",
        {"space": "nobody/app"},
        {"inference-api", "read-repos"},
    ),
    ("Space", "launch_space_call", {"space": "ada/asleep"}, {"inference-api"}),
    (
        "schedule",
        "create_schedule",
        {"cron": "@daily", "job": {**JOB, "outputs": ["a"]}},
        {"jobs", "contribute-repos"},
    ),
    (
        "schedule of calls",
        "create_schedule",
        {"cron": "@daily", "inference": {**CALL, "items_from": f"{PRIVATE}/a.jsonl"}},
        {"inference-api", "read-repos"},
    ),
]
SCOPES = ["jobs", "inference-api", "contribute-repos", "read-repos"]
PERMISSIONS = {
    "jobs": "job.write",
    "inference-api": "inference.serverless.write",
    "contribute-repos": "repo.write",
    "read-repos": "repo.content.read",
}


@pytest.fixture(autouse=True)
def one_public_dataset(fake_hub: FakeHub) -> None:
    """A Hub on which Ada's token sees one dataset without any scope."""
    fake_hub.visible_repos.add("ada/public")


@pytest.mark.parametrize(
    ("tool", "arguments", "needed"), [each[1:] for each in NEEDS], ids=[each[0] for each in NEEDS]
)
async def test_a_sign_in_is_asked_for_exactly_what_the_launch_needs(
    service_url: str,
    fake_hub: FakeHub,
    database: Database,
    tool: str,
    arguments: dict[str, Any],
    needed: set[str],
) -> None:
    """All of it at once, with what the token has: clients ask for just what the challenge names."""
    for lacking in sorted(needed):
        scopes = [scope for scope in SCOPES if scope in needed - {lacking}]
        token = add_oauth_token(fake_hub, "openid", *scopes)

        for progress in ({}, {"_meta": {"progressToken": 1}}):
            answer = await post_message(
                service_url,
                "tools/call",
                {"name": tool, "arguments": arguments, **progress},
                authorization=f"Bearer {token}",
                mcp_protocol_version="2025-11-25",
            )

            assert answer.status_code == 403, lacking
            challenge = answer.headers["www-authenticate"]
            assert 'error="insufficient_scope"' in challenge
            asked_for = challenge.partition('scope="')[2].partition('"')[0].split()
            assert sorted(asked_for) == sorted(needed)
            assert lacking in answer.json()["error"]["message"]
    assert await count_jobs(database) == 0


@pytest.mark.parametrize(
    ("tool", "arguments", "needed"), [each[1:] for each in NEEDS], ids=[each[0] for each in NEEDS]
)
async def test_a_fine_grained_token_is_told_which_permission_to_add(
    service_url: str,
    fake_hub: FakeHub,
    database: Database,
    tool: str,
    arguments: dict[str, Any],
    needed: set[str],
) -> None:
    """It cannot sign in for more, so the model is told what to ask the person for."""
    for lacking in sorted(needed - {"read-repos"} if "contribute-repos" in needed else needed):
        scopes = [scope for scope in SCOPES if scope != lacking]
        if lacking == "read-repos":
            scopes.remove("contribute-repos")  # permission to write includes permission to read
        token = add_fine_grained_token(
            fake_hub, *(("user", "ada", PERMISSIONS[scope]) for scope in scopes)
        )
        token = fake_hub.rename_token(token, f"hf_lacks_{lacking}")

        answer = await call_tool(service_url, tool, caller_token=token, **arguments)

        assert read_refusal(answer)["code"] == "InsufficientScope", answer_text(answer)
        assert PERMISSIONS[lacking] in answer_text(answer)
    assert await count_jobs(database) == 0


async def test_a_retry_needs_what_the_earlier_job_needed(
    service_url: str, fake_hub: FakeHub, database: Database, make_job: JobFactory
) -> None:
    """And what its overrides need."""
    with_outputs = await make_job(
        spec={**JOB, "outputs": ["a"], "outputs_in": "ada/holdfast", "timeout": 60.0}
    )
    plain = await make_job(spec={**JOB, "timeout": 60.0})
    token = add_oauth_token(fake_hub, "openid", "jobs")
    retries = [
        {"job_id": job_handle(with_outputs.id)},
        {"job_id": job_handle(plain.id), "overrides": {"outputs": ["b"]}},
    ]

    for arguments in retries:
        answer = await post_message(
            service_url,
            "tools/call",
            {"name": "retry_job", "arguments": arguments},
            authorization=f"Bearer {token}",
            mcp_protocol_version="2025-11-25",
        )

        assert answer.status_code == 403
        assert 'scope="jobs contribute-repos"' in answer.headers["www-authenticate"]
    assert await count_jobs(database) == 2


@pytest.mark.parametrize("wider", ["write-repos", "manage-repos"])
async def test_a_wider_scope_includes_what_is_needed(
    service_url: str, fake_hub: FakeHub, database: Database, wider: str
) -> None:
    """Nobody is asked for less than they have granted."""
    token = add_oauth_token(fake_hub, "openid", "jobs", wider)
    arguments = {**JOB, "outputs": ["a"], "volumes": [f"{PRIVATE}:/d"]}

    answer = await call_tool(service_url, "launch_job", caller_token=token, **arguments)

    assert not answer.is_error, answer_text(answer)
    assert await count_jobs(database) == 1
