"""What a token may do: asked at the edge, again before the tool, and of the Hub before a launch."""

import base64
import json
from typing import Any

import pytest
from starlette.responses import Response

from schema.db.database import Database
from tests.conftest import JobFactory
from tests.service.conftest import Start
from tests.service.stand_in import (
    ADA,
    ADAS,
    ASLEEP,
    Whoami,
    call,
    calling,
    person,
    post,
    refusal,
    shown,
    text,
)

LAUNCH: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
ASK: dict[str, Any] = {"model": "m", "inputs": "hello"}
ACTING = {
    *("launch_job", "launch_inference", "launch_space_call", "cancel_job", "retry_job"),
    *("create_workspace", "update_workspace", "archive_workspace"),
    *("create_schedule", "update_schedule", "delete_schedule"),
}


def signed_in(hub: Whoami, *scopes: str, orgs: tuple[str, ...] = ()) -> str:
    """Give Ada a token by OAuth, as the Hub writes them, with these scopes."""
    claims = base64.urlsafe_b64encode(json.dumps({"scope": " ".join(scopes)}).encode()).decode()
    token = f"hf_oauth_e30.{claims.rstrip('=')}.c2ln"
    answer = person(ADA, "ada", type="oauth")
    answer["orgs"] = [{"type": "org", "name": org, "roleInOrg": "write"} for org in orgs]
    hub.answers[token] = answer
    return token


def fine_grained(hub: Whoami, *scoped: tuple[str, str, str]) -> str:
    """Give Ada a fine-grained token: type and name of an entity, and a permission there."""
    entries = [
        {"entity": {"_id": "1", "type": kind, "name": name}, "permissions": [permission]}
        for kind, name, permission in scoped
    ]
    token: dict[str, Any] = {"role": "fineGrained", "fineGrained": {"scoped": entries}}
    hub.answers["hf_fine"] = person(ADA, "ada", type="access_token", accessToken=token)
    return "hf_fine"


async def launched(database: Database) -> int:
    async with database.transaction() as tx:
        jobs: int = await tx.fetchval("SELECT count(*) FROM job")
    return jobs


@pytest.mark.parametrize(
    ("tool", "arguments", "scope"),
    [
        ("launch_job", LAUNCH, "jobs"),
        ("launch_inference", ASK, "inference-api"),
        ("launch_space_call", {"space": ASLEEP}, "inference-api"),
    ],
)
async def test_a_sign_in_that_lacks_a_scope_is_sent_to_get_exactly_that_one(
    service: str,
    hub: Whoami,
    database: Database,
    tool: str,
    arguments: dict[str, Any],
    scope: str,
) -> None:
    """A client asks the person for more by itself, and for no more than this call needs."""
    token = signed_in(hub, "openid", "profile")

    response = await post(
        service,
        "tools/call",
        {"name": tool, "arguments": arguments},
        authorization=f"Bearer {token}",
    )

    assert response.status_code == 403
    challenge = response.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge
    assert response.json()["error"] == "insufficient_scope"
    assert await launched(database) == 0


async def test_a_sign_in_with_the_scope_is_let_through(service: str, hub: Whoami) -> None:
    """Only what this call needs is asked for, not what another one would."""
    token = signed_in(hub, "openid", "jobs")

    view = await shown(service, "launch_job", by=token, **LAUNCH)

    assert view["state"] == "queued"


async def test_a_batch_hides_no_call_from_the_edge(
    service: str, hub: Whoami, database: Database
) -> None:
    """One harmless message in front of another does not make that one harmless."""
    token = signed_in(hub, "openid")
    called = {"method": "tools/call", "params": {"name": "launch_job", "arguments": LAUNCH}}
    params: Any = [{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", **called}]

    response = await post(service, "ping", params, authorization=f"Bearer {token}")

    assert response.status_code >= 400
    assert await launched(database) == 0


async def test_a_token_that_does_not_say_its_scopes_is_judged_by_the_hub(
    service: str, hub: Whoami
) -> None:
    """What is read out of a token is a hint; without one nobody is turned away."""
    hub.answers["hf_oauth_opaque"] = person(ADA, "ada", type="oauth")

    assert (await shown(service, "launch_job", by="hf_oauth_opaque", **LAUNCH))["state"] == "queued"


@pytest.mark.parametrize(
    ("scoped", "tool", "arguments"),
    [
        (("user", "ada", "job.write"), "launch_inference", ASK),
        (("user", "ada", "inference.serverless.write"), "launch_job", LAUNCH),
    ],
)
async def test_a_fine_grained_token_may_do_what_its_permissions_say(
    service: str,
    hub: Whoami,
    database: Database,
    scoped: tuple[str, str, str],
    tool: str,
    arguments: dict[str, Any],
) -> None:
    """A token cannot step up, so the model is told what to ask the person for."""
    answer = await call(service, tool, by=fine_grained(hub, scoped), **arguments)

    assert refusal(answer)["code"] == "InsufficientScope"
    assert "job.write and inference.serverless.write" in text(answer)
    assert await launched(database) == 0


async def test_a_static_token_is_shown_only_what_it_can_use(service: str) -> None:
    """A tool that can only be refused is a waste of a model's attention."""
    async with calling(service, "hf_reader") as client:
        reader = {tool.name for tool in (await client.list_tools()).tools}
    async with calling(service, ADAS) as client:
        writer = {tool.name for tool in (await client.list_tools()).tools}

    assert writer - reader == ACTING


async def test_who_can_sign_in_for_more_is_shown_everything(service: str, hub: Whoami) -> None:
    """A hidden tool can never be stepped up to."""
    async with calling(service, signed_in(hub, "openid")) as client:
        shown_to_all = {tool.name for tool in (await client.list_tools()).tools}

    assert shown_to_all >= ACTING


async def test_the_list_of_tools_is_not_to_be_shared_between_callers(service: str) -> None:
    """What one caller may see is nothing for a cache that serves another."""
    async with calling(service) as client:
        listed = await client.list_tools()

    assert listed.model_dump(by_alias=True)["cacheScope"] == "private"


async def test_an_organisation_the_token_does_not_reach_is_refused_with_where_to_grant_it(
    service: str, hub: Whoami, database: Database
) -> None:
    """Nothing is created, and nobody is asked, in a name that was not granted."""
    token = signed_in(hub, "jobs", "inference-api", orgs=("acme",))

    answer = await call(service, "launch_job", by=token, namespace="umbrella", **LAUNCH)

    assert refusal(answer)["code"] == "NamespaceDenied"
    assert "https://huggingface.co/settings/connected-applications" in text(answer)
    assert (await launched(database), hub.checked) == (0, [])


async def test_a_job_runs_as_an_organisation_that_was_granted(
    service: str, hub: Whoami, database: Database
) -> None:
    """Who acts and who pays is one choice, made by the caller."""
    token = signed_in(hub, "jobs", "inference-api", orgs=("acme",))

    view = await shown(service, "launch_job", by=token, namespace="acme", **LAUNCH)

    assert view["namespace"] == "acme"
    assert hub.checked == [(token, "acme")]


async def test_a_role_that_only_reads_in_an_organisation_does_not_act_for_it(
    service: str, hub: Whoami
) -> None:
    """To belong to an organisation is not to spend its money."""
    hub.answers[ADAS]["orgs"] = [{"type": "org", "name": "acme", "roleInOrg": "read"}]

    answer = await call(service, "launch_job", namespace="acme", **LAUNCH)

    assert refusal(answer)["code"] == "NamespaceDenied"


async def test_a_fine_grained_token_acts_for_the_organisation_it_names(
    service: str, hub: Whoami
) -> None:
    """What whoami says of memberships is wider than what such a token allows."""
    token = fine_grained(hub, ("org", "acme", "job.write"))
    hub.answers[token]["orgs"] = [{"type": "org", "name": "umbrella", "roleInOrg": "admin"}]

    view = await shown(service, "launch_job", by=token, namespace="acme", **LAUNCH)
    answer = await call(service, "launch_job", by=token, namespace="umbrella", **LAUNCH)

    assert view["namespace"] == "acme"
    assert refusal(answer)["code"] == "NamespaceDenied"


async def test_the_hub_is_asked_before_the_first_launch_in_a_namespace(
    service: str, hub: Whoami
) -> None:
    """A refusal at once is worth more than a job that fails later; asking once is enough."""
    for _ in range(3):
        await shown(service, "launch_job", **LAUNCH)

    assert hub.checked == [(ADAS, "ada")]


async def test_a_launch_the_hub_would_refuse_is_not_begun(
    service: str, hub: Whoami, database: Database
) -> None:
    """The Hub's own words say what is missing."""
    hub.denied["ada"] = "Job write permission is missing."

    answer = await call(service, "launch_job", **LAUNCH)

    assert refusal(answer)["code"] == "LaunchDenied"
    assert "Job write permission is missing." in text(answer)
    assert await launched(database) == 0


async def test_a_hub_that_does_not_answer_holds_up_no_launch(service: str, hub: Whoami) -> None:
    """The question is a courtesy; the launch is durable, and will have its answer."""
    async with calling(service) as client:
        await client.call_tool("list_hardware", {})
        hub.failing = Response(status_code=503)
        answer = await client.call_tool("launch_job", LAUNCH)

    assert not answer.is_error


async def test_whoami_tells_what_a_token_allows_and_lacks(
    service: str, hub: Whoami, make_job: JobFactory
) -> None:
    """A model that was refused can find out what to ask the person for."""
    token = signed_in(hub, "openid", "jobs", orgs=("acme",))
    await make_job()

    view = await shown(service, "whoami", by=token)

    assert view == {
        "subject_id": ADA,
        "name": "ada",
        "token_kind": "oauth",
        "token_expires_at": None,
        "scopes": ["jobs"],
        "missing_scopes": ["inference-api"],
        "namespaces": ["ada", "acme"],
        "hold": None,
        "open_jobs": 1,
        "month": {"budget_usd": None, "spent_usd": 0.0, "held_usd": 0.0, "left_usd": None},
    }


async def test_to_cancel_takes_the_scope_that_the_launch_took(
    service: str, hub: Whoami, make_job: JobFactory
) -> None:
    """A token that may not touch jobs could not stop what runs, so it is not told that it did."""
    job = await make_job()
    token = signed_in(hub, "openid", "inference-api")
    view = (await shown(service, "list_jobs"))["jobs"][0]

    answer = await call(service, "cancel_job", by=token, job_id=view["job_id"])

    assert refusal(answer)["code"] == "InsufficientScope"
    assert (await shown(service, "list_jobs"))["jobs"][0]["version"] == job.version


async def test_whoever_has_not_signed_in_may_look_at_the_tools_where_that_is_allowed(
    start: Start,
) -> None:
    """A directory of servers lists tools without an account; it calls none of them."""
    with start(anonymous="browse") as url:
        listed = await post(url, "tools/list", authorization="")
        called = await post(
            url, "tools/call", {"name": "list_jobs", "arguments": {}}, authorization=""
        )
        wrong = await post(url, "tools/list", authorization="Bearer hf_stale")

    names = {tool["name"] for tool in listed.json()["result"]["tools"]}
    assert (listed.status_code, called.status_code, wrong.status_code) == (200, 401, 401)
    assert names.isdisjoint(ACTING)
    assert "resource_metadata=" in called.headers["www-authenticate"]


async def test_more_calls_than_the_limit_are_told_when_to_come_back(
    start: Start, hub: Whoami
) -> None:
    """An agent in a loop is slowed down, and can tell from the answer for how long."""
    hub.answers["hf_busy"] = person("5e9ecfc04957053f60648a99", "busy")
    with start(calls_per_minute=2) as url:
        answers = [await post(url, "tools/list", authorization="Bearer hf_busy") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"calls";r=1;')
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[2].json()["error"] == "rate_limited"
