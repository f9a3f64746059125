"""What a token may do: asked at the edge, again before the tool, and of the Hub before a launch."""

import base64
import json
from typing import Any

import pytest
from starlette.responses import Response

from schema.db.database import Database
from tests.support.factories import JobFactory, StartService
from tests.support.hub.fake_hub import SLEEPING_SPACE, FakeHub, whoami_answer
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    post_message,
    read_refusal,
    refusal_code,
)
from tests.support.mcp.valid_arguments import complete_arguments
from tests.support.subjects import ADA_ID, ADA_TOKEN

LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
CALL_ARGUMENTS: dict[str, Any] = {"model": "m", "inputs": "hello"}
WRITING_TOOLS = {
    *("launch_job", "launch_inference", "launch_space_call", "cancel_job", "retry_job"),
    *("adopt_job", "create_upload"),
    *("create_workspace", "update_workspace", "archive_workspace", "rotate_webhook_secret"),
    *("create_schedule", "update_schedule", "delete_schedule"),
}
HANDLES = {
    **dict.fromkeys(("cancel_job", "retry_job"), "job_id"),
    **dict.fromkeys(("update_workspace", "archive_workspace"), "workspace_id"),
    **dict.fromkeys(("update_schedule", "delete_schedule"), "schedule_id"),
}
"""The handle that each of these tools takes."""


def add_oauth_token(hub: FakeHub, *scopes: str, orgs: tuple[str, ...] = ()) -> str:
    """Give Ada a token by OAuth, as the Hub writes them, with these scopes."""
    claims = base64.urlsafe_b64encode(json.dumps({"scope": " ".join(scopes)}).encode()).decode()
    token = f"hf_oauth_e30.{claims.rstrip('=')}.c2ln"
    answer = whoami_answer(ADA_ID, "ada", type="oauth")
    answer["orgs"] = [{"type": "org", "name": org, "roleInOrg": "write"} for org in orgs]
    hub.whoami_by_token[token] = answer
    return token


def add_fine_grained_token(hub: FakeHub, *scoped: tuple[str, str, str]) -> str:
    """Give Ada a fine-grained token: type and name of an entity, and a permission there."""
    entries = [
        {"entity": {"_id": "1", "type": kind, "name": name}, "permissions": [permission]}
        for kind, name, permission in scoped
    ]
    token: dict[str, Any] = {"role": "fineGrained", "fineGrained": {"scoped": entries}}
    hub.whoami_by_token["hf_fine"] = whoami_answer(
        ADA_ID, "ada", type="access_token", accessToken=token
    )
    return "hf_fine"


async def count_jobs(database: Database) -> int:
    async with database.transaction() as tx:
        jobs: int = await tx.fetchval("SELECT count(*) FROM job")
    return jobs


@pytest.mark.parametrize(
    ("tool", "arguments", "scope"),
    [
        ("launch_job", LAUNCH_ARGUMENTS, "jobs"),
        ("launch_inference", CALL_ARGUMENTS, "inference-api"),
        ("launch_space_call", {"space": SLEEPING_SPACE}, "inference-api"),
    ],
)
async def test_a_sign_in_that_lacks_a_scope_is_sent_to_get_exactly_that_one(
    service_url: str,
    fake_hub: FakeHub,
    database: Database,
    tool: str,
    arguments: dict[str, Any],
    scope: str,
) -> None:
    """A client asks the person for more by itself, and for no more than this call needs."""
    token = add_oauth_token(fake_hub, "openid", "profile")

    response = await post_message(
        service_url,
        "tools/call",
        {"name": tool, "arguments": arguments},
        authorization=f"Bearer {token}",
        mcp_protocol_version="2025-11-25",
    )

    assert response.status_code == 403
    challenge = response.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge
    assert refusal_code(response) == "insufficient_scope"
    assert await count_jobs(database) == 0


@pytest.mark.parametrize("version", ["", "2025-03-26", "2025-06-18"])
async def test_a_client_that_knows_no_second_sign_in_gets_the_answer_of_the_tool(
    service_url: str, fake_hub: FakeHub, database: Database, version: str
) -> None:
    """A 403 ends the session of mcp 1.17, and mcp-remote 0.1.29 waits for ever."""
    response = await post_message(
        service_url,
        "tools/call",
        {"name": "launch_job", "arguments": {"image": "python:3.12", "command": ["true"]}},
        authorization=f"Bearer {add_oauth_token(fake_hub, 'openid', 'profile')}",
        mcp_protocol_version=version,
    )

    assert response.status_code == 200
    assert response.json()["result"]["isError"]
    assert "Sign in again and grant the scope jobs" in response.text
    assert await count_jobs(database) == 0


async def test_a_sign_in_with_the_scope_is_let_through(service_url: str, fake_hub: FakeHub) -> None:
    """Only what this call needs is asked for, not what another one would."""
    token = add_oauth_token(fake_hub, "openid", "jobs")

    view = await call_for_result(service_url, "launch_job", caller_token=token, **LAUNCH_ARGUMENTS)

    assert view["state"] == "queued"


async def test_a_batch_hides_no_call_from_the_middleware(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """One harmless message in front of another does not make that one harmless."""
    token = add_oauth_token(fake_hub, "openid")
    called = {
        "method": "tools/call",
        "params": {"name": "launch_job", "arguments": LAUNCH_ARGUMENTS},
    }
    params: Any = [{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", **called}]

    response = await post_message(service_url, "ping", params, authorization=f"Bearer {token}")

    assert response.status_code >= 400
    assert await count_jobs(database) == 0


async def test_a_token_that_does_not_say_its_scopes_is_judged_by_the_hub(
    service_url: str, fake_hub: FakeHub
) -> None:
    """What is read out of a token is a hint; without one nobody is turned away."""
    fake_hub.whoami_by_token["hf_oauth_opaque"] = whoami_answer(ADA_ID, "ada", type="oauth")

    assert (
        await call_for_result(
            service_url, "launch_job", caller_token="hf_oauth_opaque", **LAUNCH_ARGUMENTS
        )
    )["state"] == "queued"


@pytest.mark.parametrize(
    ("scoped", "tool", "arguments"),
    [
        (("user", "ada", "job.write"), "launch_inference", CALL_ARGUMENTS),
        (("user", "ada", "inference.serverless.write"), "launch_job", LAUNCH_ARGUMENTS),
    ],
)
async def test_a_fine_grained_token_may_do_what_its_permissions_say(
    service_url: str,
    fake_hub: FakeHub,
    database: Database,
    scoped: tuple[str, str, str],
    tool: str,
    arguments: dict[str, Any],
) -> None:
    """A token cannot step up, so the model is told what to ask the person for."""
    answer = await call_tool(
        service_url, tool, caller_token=add_fine_grained_token(fake_hub, scoped), **arguments
    )

    assert read_refusal(answer)["code"] == "InsufficientScope"
    assert "job.write and inference.serverless.write" in answer_text(answer)
    assert await count_jobs(database) == 0


async def test_a_static_token_is_shown_only_what_it_can_use(service_url: str) -> None:
    """A tool that can only be refused is a waste of a model's attention."""
    async with open_mcp_client(service_url, "hf_reader") as client:
        reader = {tool.name for tool in (await client.list_tools()).tools}
    async with open_mcp_client(service_url, ADA_TOKEN) as client:
        writer = {tool.name for tool in (await client.list_tools()).tools}

    assert writer - reader == WRITING_TOOLS


@pytest.mark.parametrize("tool", sorted(WRITING_TOOLS))
async def test_a_tool_that_is_not_shown_cannot_be_called_either(
    service_url: str, database: Database, tool: str
) -> None:
    """A client may know its name from elsewhere; nothing is looked up or written for it."""
    arguments = complete_arguments(tool, [HANDLES.get(tool, "")])

    answer = await call_tool(service_url, tool, caller_token="hf_reader", **arguments)

    assert read_refusal(answer)["code"] == "InsufficientScope"
    assert "read-only" in answer_text(answer)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM workspace") == 0


async def test_who_can_sign_in_for_more_is_shown_everything(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A hidden tool can never be stepped up to."""
    async with open_mcp_client(service_url, add_oauth_token(fake_hub, "openid")) as client:
        shown_to_all = {tool.name for tool in (await client.list_tools()).tools}

    assert shown_to_all >= WRITING_TOOLS


async def test_the_list_of_tools_is_not_to_be_shared_between_callers(service_url: str) -> None:
    """What one caller may see is nothing for a cache that serves another."""
    async with open_mcp_client(service_url) as client:
        listed = await client.list_tools()

    assert listed.model_dump(by_alias=True)["cacheScope"] == "private"


async def test_an_organisation_the_token_does_not_reach_is_refused_with_where_to_grant_it(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """Nothing is created, and nobody is asked, in a name that was not granted."""
    token = add_oauth_token(fake_hub, "jobs", "inference-api", orgs=("acme",))

    answer = await call_tool(
        service_url, "launch_job", caller_token=token, namespace="umbrella", **LAUNCH_ARGUMENTS
    )

    assert read_refusal(answer)["code"] == "NamespaceDenied"
    assert "https://huggingface.co/settings/connected-applications" in answer_text(answer)
    assert (await count_jobs(database), fake_hub.launch_checks) == (0, [])


async def test_a_job_runs_as_an_organisation_that_was_granted(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """Who acts and who pays is one choice, made by the caller."""
    token = add_oauth_token(fake_hub, "jobs", "inference-api", orgs=("acme",))

    view = await call_for_result(
        service_url, "launch_job", caller_token=token, namespace="acme", **LAUNCH_ARGUMENTS
    )

    assert view["namespace"] == "acme"
    assert fake_hub.launch_checks == [(token, "acme")]


async def test_a_role_that_only_reads_in_an_organisation_does_not_act_for_it(
    service_url: str, fake_hub: FakeHub
) -> None:
    """To belong to an organisation is not to spend its money."""
    fake_hub.whoami_by_token[ADA_TOKEN]["orgs"] = [
        {"type": "org", "name": "acme", "roleInOrg": "read"}
    ]

    answer = await call_tool(service_url, "launch_job", namespace="acme", **LAUNCH_ARGUMENTS)

    assert read_refusal(answer)["code"] == "NamespaceDenied"


async def test_a_fine_grained_token_acts_for_the_organisation_it_names(
    service_url: str, fake_hub: FakeHub
) -> None:
    """What whoami says of memberships is wider than what such a token allows."""
    token = add_fine_grained_token(fake_hub, ("org", "acme", "job.write"))
    fake_hub.whoami_by_token[token]["orgs"] = [
        {"type": "org", "name": "umbrella", "roleInOrg": "admin"}
    ]

    view = await call_for_result(
        service_url, "launch_job", caller_token=token, namespace="acme", **LAUNCH_ARGUMENTS
    )
    answer = await call_tool(
        service_url, "launch_job", caller_token=token, namespace="umbrella", **LAUNCH_ARGUMENTS
    )

    assert view["namespace"] == "acme"
    assert read_refusal(answer)["code"] == "NamespaceDenied"


async def test_the_hub_is_asked_before_the_first_launch_in_a_namespace(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A refusal at once is worth more than a job that fails later; asking once is enough."""
    for _ in range(3):
        await call_for_result(service_url, "launch_job", **LAUNCH_ARGUMENTS)

    assert fake_hub.launch_checks == [(ADA_TOKEN, "ada")]


async def test_a_launch_the_hub_would_refuse_is_not_begun(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """The Hub's own words say what is missing."""
    fake_hub.denied_namespaces["ada"] = "Job write permission is missing."

    answer = await call_tool(service_url, "launch_job", **LAUNCH_ARGUMENTS)

    assert read_refusal(answer)["code"] == "LaunchDenied"
    assert "Job write permission is missing." in answer_text(answer)
    assert await count_jobs(database) == 0


async def test_a_hub_that_does_not_answer_holds_up_no_launch(
    service_url: str, fake_hub: FakeHub
) -> None:
    """The question is a courtesy; the launch is durable, and will have its answer."""
    async with open_mcp_client(service_url) as client:
        await client.call_tool("list_hardware", {})
        fake_hub.failure_response = Response(status_code=503)
        answer = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

    assert not answer.is_error


async def test_whoami_tells_what_a_token_allows_and_lacks(
    service_url: str, fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """A model that was refused can find out what to ask the person for."""
    token = add_oauth_token(fake_hub, "openid", "jobs", orgs=("acme",))
    await make_job()

    view = await call_for_result(service_url, "whoami", caller_token=token)

    del view["month"]["resets_at"]
    assert "read-billing" in view.pop("billing_note")
    assert view == {
        "subject_id": ADA_ID,
        "name": "ada",
        "token_kind": "oauth",
        "token_expires_at": None,
        "scopes": ["jobs"],
        "missing_scopes": ["contribute-repos", "inference-api", "read-repos"],
        "sign_in": None,
        "namespaces": ["ada", "acme"],
        "more_namespaces": 0,
        "hold": None,
        "open_jobs": 1,
        "month": {"budget_usd": None, "spent_usd": 0.0, "held_usd": 0.0, "left_usd": None},
        "plan": None,
        "can_pay": None,
        "unpaid_namespaces": [],
        "zero_gpu": None,
        "links": [],
    }


async def test_to_cancel_takes_the_scope_that_the_launch_took(
    service_url: str, fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """A token that may not touch jobs could not stop what runs, so it is not told that it did."""
    job = await make_job()
    token = add_oauth_token(fake_hub, "openid", "inference-api")
    view = (await call_for_result(service_url, "list_jobs"))["jobs"][0]

    answer = await call_tool(service_url, "cancel_job", caller_token=token, job_id=view["job_id"])

    assert read_refusal(answer)["code"] == "InsufficientScope"
    assert (await call_for_result(service_url, "list_jobs"))["jobs"][0]["version"] == job.version


async def test_more_calls_than_the_limit_are_told_when_to_come_back(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """An agent in a loop is slowed down, and can tell from the answer for how long."""
    fake_hub.whoami_by_token["hf_busy"] = whoami_answer("5e9ecfc04957053f60648a99", "busy")
    with start_service(calls_per_minute=2) as url:
        answers = [
            await post_message(url, "tools/list", authorization="Bearer hf_busy") for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"calls";r=1;')
    assert int(answers[2].headers["retry-after"]) >= 1
    assert refusal_code(answers[2]) == "rate_limited"
