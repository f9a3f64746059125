"""What a workspace fills in, how it changes, and how it is put away; over HTTP."""

import asyncio
from typing import Any

import pytest

from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID

LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": "true"}


async def make_workspace(service: str, name: str = "llama", **defaults: Any) -> str:
    view = await call_for_result(service, "create_workspace", name=name, defaults=defaults)
    identity: str = view["workspace_id"]
    return identity


async def test_a_launch_takes_from_its_workspace_what_it_does_not_say(service_url: str) -> None:
    """A person says once what their fine-tuning runs on, and sees what came from there."""
    workspace = await make_workspace(
        service_url, flavor="t4-small", timeout="2h", labels={"a": "1", "b": "2"}
    )

    answer = await call_tool(
        service_url,
        "launch_job",
        **LAUNCH_ARGUMENTS,
        workspace_id=workspace,
        timeout="10m",
        labels={"b": "3"},
    )

    view = answer.structured_content
    assert (view["flavor"], view["timeout"]) == ("t4-small", "10m")
    assert view["labels"] == {"a": "1", "b": "3"}
    note, _ = view["notes"]  # the other is about what survives it
    assert note == "From the workspace llama: flavor t4-small, labels a=1."
    assert note in answer_text(answer)


async def test_without_a_workspace_nothing_is_filled_in(service_url: str) -> None:
    """Defaults are of a workspace, not of a person."""
    await make_workspace(service_url, flavor="t4-small")

    view = await call_for_result(service_url, "launch_job", **LAUNCH_ARGUMENTS)

    assert (view["flavor"], view["timeout"], view["notes"]) == ("cpu-basic", "30m", [])


async def test_a_default_that_changes_changes_no_job(service_url: str) -> None:
    """Move nothing silently: what was launched stays as it was launched."""
    workspace = await make_workspace(service_url, flavor="t4-small")
    job = await call_for_result(
        service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace
    )

    await call_for_result(
        service_url, "update_workspace", workspace_id=workspace, defaults={"flavor": "a10g-small"}
    )
    later = await call_for_result(
        service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace
    )

    [view] = (await call_for_result(service_url, "job_status", job_ids=job["job_id"]))["jobs"]
    assert (view["flavor"], later["flavor"]) == ("t4-small", "a10g-small")
    assert view["digest"] != later["digest"]


async def test_a_key_compares_what_was_really_asked_for(service_url: str) -> None:
    """The same words mean another job once the default is another."""
    workspace = await make_workspace(service_url, flavor="t4-small")
    request = LAUNCH_ARGUMENTS | {"workspace_id": workspace, "idempotency_key": "k"}
    first = await call_for_result(service_url, "launch_job", **request)
    spelt = await call_for_result(service_url, "launch_job", **request, flavor="t4-small")
    await call_for_result(
        service_url, "update_workspace", workspace_id=workspace, defaults={"flavor": "a10g-small"}
    )

    changed = await call_tool(service_url, "launch_job", **request)

    assert spelt["job_id"] == first["job_id"]
    assert read_refusal(changed)["code"] == "IdempotencyConflict"
    assert "differs in flavor" in answer_text(changed)


async def test_a_model_call_takes_labels_and_nothing_else(service_url: str) -> None:
    """Hardware, and how long a training may take, say nothing about a chat."""
    workspace = await make_workspace(
        service_url, flavor="t4-small", timeout="9h", labels={"team": "nlp"}
    )

    view = await call_for_result(
        service_url, "launch_inference", model="m/m", inputs="Hi", workspace_id=workspace
    )

    assert (view["flavor"], view["timeout"]) == (None, "10m")
    assert view["labels"] == {"team": "nlp"}


async def test_labels_are_too_many_together(service_url: str) -> None:
    """The Hub's limit holds for what is sent, whoever said which of it."""
    workspace = await make_workspace(service_url, labels={f"a{n}": "1" for n in range(15)})

    answer = await call_tool(
        service_url,
        "launch_job",
        **LAUNCH_ARGUMENTS,
        workspace_id=workspace,
        labels={f"b{n}": "1" for n in range(15)},
    )

    assert read_refusal(answer)["code"] == "Invalid"
    assert "at most 20 items" in answer_text(answer)


async def test_a_default_namespace_is_checked_like_a_given_one(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A default set by one token must not let another spend an organisation's money."""
    acme = {"name": "acme", "roleInOrg": "write"}
    fake_hub.whoami_by_token["hf_acme"] = whoami_answer(ADA_ID, "ada") | {"orgs": [acme]}
    workspace = await call_for_result(
        service_url,
        "create_workspace",
        caller_token="hf_acme",
        name="w",
        defaults={"namespace": "acme"},
    )
    inside = LAUNCH_ARGUMENTS | {"workspace_id": workspace["workspace_id"]}

    hers = await call_for_result(service_url, "launch_job", caller_token="hf_acme", **inside)
    denied = await call_tool(service_url, "launch_job", **inside)
    own = await call_for_result(service_url, "launch_job", **inside, namespace="ada")

    assert hers["namespace"] == "acme"
    assert read_refusal(denied)["code"] == "NamespaceDenied"
    assert "give namespace='ada'" in answer_text(denied)
    assert own["namespace"] == "ada"
    assert ("hf_acme", "acme") in fake_hub.launch_checks


@pytest.mark.parametrize("tool", ["create_workspace", "update_workspace"])
async def test_a_namespace_out_of_reach_is_no_default(service_url: str, tool: str) -> None:
    """It would make every launch fail."""
    workspace = await make_workspace(service_url)
    whose = {"name": "new"} if tool == "create_workspace" else {"workspace_id": workspace}

    answer = await call_tool(service_url, tool, **whose, defaults={"namespace": "acme"})

    assert read_refusal(answer)["code"] == "NamespaceDenied"
    assert [
        each["name"]
        for each in (await call_for_result(service_url, "list_workspaces"))["workspaces"]
    ] == ["llama"]


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"flavor": "A10G!"}, "hardware flavor"),
        ({"timeout": "0s"}, "is not positive"),
        ({"labels": {"a b": "1"}}, "not a label the Hub takes"),
        ({"flavour": "t4-small"}, "flavour"),
    ],
)
async def test_a_default_that_no_launch_would_take_is_refused(
    service_url: str, defaults: dict[str, Any], message: str
) -> None:
    """At the time it is said, and not at the first launch."""
    answer = await call_tool(service_url, "create_workspace", name="llama", defaults=defaults)

    assert read_refusal(answer)["code"] == "Invalid"
    assert message in answer_text(answer)


async def test_asking_for_a_name_that_is_there_changes_nothing(service_url: str) -> None:
    """A repeated call with other defaults must not move what the first one said."""
    first = await call_for_result(
        service_url, "create_workspace", name="llama", defaults={"flavor": "t4-small"}
    )

    answer = await call_tool(
        service_url, "create_workspace", name="llama", defaults={"flavor": "l4x1"}
    )

    assert answer.structured_content == first | {"created": False}
    assert "left as it is" in answer_text(answer)


async def test_a_workspace_is_renamed_unless_another_has_the_name(service_url: str) -> None:
    """The refusal says which one has it."""
    first, second = await make_workspace(service_url, "a"), await make_workspace(service_url, "b")

    taken = await call_tool(service_url, "update_workspace", workspace_id=second, name="a")
    renamed = await call_for_result(service_url, "update_workspace", workspace_id=second, name="c")
    same = await call_for_result(service_url, "update_workspace", workspace_id=second, name="c")

    assert read_refusal(taken)["code"] == "NameTaken"
    assert first in answer_text(taken)
    assert renamed["name"] == same["name"] == "c"


async def test_one_of_two_that_want_the_same_name_gets_it(service_url: str) -> None:
    """However close the two calls are, the other is told who was faster."""
    both = [await make_workspace(service_url, "a"), await make_workspace(service_url, "b")]

    answers = await asyncio.gather(
        *(call_tool(service_url, "update_workspace", workspace_id=each, name="c") for each in both)
    )

    [winner] = [each for each in answers if not each.is_error]
    [loser] = [each for each in answers if each.is_error]
    assert read_refusal(loser)["code"] == "NameTaken"
    assert winner.structured_content["workspace_id"] in answer_text(loser)


async def test_a_threshold_is_in_dollars_and_can_be_turned_off(service_url: str) -> None:
    """Off is a word, for null is what clients send when they mean nothing."""
    workspace = await make_workspace(service_url)
    changes: list[dict[str, Any]] = [
        {"confirm_above_usd": 2.5},
        {"confirm_above_usd": None},
        {"name": "x"},
    ]
    views = [
        await call_for_result(service_url, "update_workspace", workspace_id=workspace, **change)
        for change in changes
    ]
    amounts = [view["confirm_above_usd"] for view in views]
    zero = await call_for_result(
        service_url, "update_workspace", workspace_id=workspace, confirm_above_usd=0
    )
    off = await call_for_result(
        service_url, "update_workspace", workspace_id=workspace, confirm_above_usd="off"
    )

    assert amounts == [2.5, 2.5, 2.5]
    assert (zero["confirm_above_usd"], off["confirm_above_usd"]) == (0, None)


async def test_a_budget_is_set_changed_and_taken_away(service_url: str) -> None:
    """It bounds what is new; what runs goes on, and what it holds is shown."""
    launch = {**LAUNCH_ARGUMENTS, "flavor": "a10g-small", "timeout": "30m"}
    workspace = await make_workspace(service_url)
    change: dict[str, Any] = {"workspace_id": workspace}
    job = await call_for_result(service_url, "launch_job", **launch, workspace_id=workspace)

    lowered = await call_for_result(service_url, "update_workspace", **change, budget_usd=0.25)
    refused = await call_tool(service_url, "launch_job", **launch, workspace_id=workspace)
    view = await call_for_result(service_url, "update_workspace", **change, name="b")
    status = await call_tool(service_url, "workspace_status", workspace_id=workspace)
    off = await call_for_result(service_url, "update_workspace", **change, budget_usd="off")

    assert (lowered["budget_usd"], lowered["held_usd"], lowered["left_usd"]) == (0.25, 0.50001, 0)
    assert read_refusal(refused)["code"] == "BudgetExceeded"
    assert view["budget_usd"] == 0.25
    assert "and may cost $0.51 more, of a budget of $0.25; $0.00 is left." in answer_text(status)
    assert (off["budget_usd"], off["left_usd"]) == (None, None)
    [still] = (await call_for_result(service_url, "job_status", job_ids=job["job_id"]))["jobs"]
    assert still["state"] == "queued"
    assert not (
        await call_tool(service_url, "launch_job", **launch, workspace_id=workspace)
    ).is_error


async def test_a_dry_run_shows_what_the_workspace_fills_in(service_url: str) -> None:
    """And that it is archived, before the launch finds out."""
    workspace = await make_workspace(service_url, flavor="a10g-small", labels={"a": "1"})
    arguments: dict[str, Any] = {**LAUNCH_ARGUMENTS, "workspace_id": workspace, "dry_run": True}

    open_ = await call_for_result(service_url, "launch_job", **arguments)
    await call_for_result(service_url, "archive_workspace", workspace_id=workspace)
    archived = await call_for_result(service_url, "launch_job", **arguments)

    assert (open_["spec"]["flavor"], open_["labels"], open_["needs"]) == (
        "a10g-small",
        {"a": "1"},
        [],
    )
    assert "flavor a10g-small, labels a=1" in open_["notes"][0]
    assert "is archived" in archived["needs"][0]


async def test_an_archived_workspace_refuses_work_and_says_what_to_do(service_url: str) -> None:
    """The remedy works as it is written."""
    workspace = await make_workspace(service_url)
    job = await call_for_result(
        service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace
    )
    archived = await call_tool(service_url, "archive_workspace", workspace_id=workspace)
    again = await call_for_result(service_url, "archive_workspace", workspace_id=workspace)

    refused = await call_tool(service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace)

    assert "1 job in it goes on;" in answer_text(archived)
    assert again == archived.structured_content
    assert read_refusal(refused)["code"] == "WorkspaceArchived"
    assert f'update_workspace(workspace_id="{workspace}", archived=false)' in answer_text(refused)
    [view] = (await call_for_result(service_url, "list_jobs", workspace_id=workspace))["jobs"]
    assert (view["job_id"], view["state"]) == (job["job_id"], "queued")
    await call_for_result(service_url, "update_workspace", workspace_id=workspace, archived=False)
    assert (
        await call_for_result(service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace)
    )["workspace_id"]


async def test_archived_workspaces_are_listed_if_they_are_asked_for(service_url: str) -> None:
    """They are put away, not lost; their names are still taken."""
    old, new = await make_workspace(service_url, "old"), await make_workspace(service_url, "new")
    await call_for_result(service_url, "archive_workspace", workspace_id=old)

    listed = (await call_for_result(service_url, "list_workspaces"))["workspaces"]
    all_of_them = (await call_for_result(service_url, "list_workspaces", archived=True))[
        "workspaces"
    ]
    named = await call_tool(service_url, "create_workspace", name="old")

    assert [each["workspace_id"] for each in listed] == [new]
    assert [each["workspace_id"] for each in all_of_them] == [new, old]
    assert named.structured_content["archived_at"] is not None
    assert f'update_workspace(workspace_id="{old}", archived=false)' in answer_text(named)


async def test_a_workspace_is_looked_at_as_one(service_url: str) -> None:
    """Counts, settings and the newest jobs in one call."""
    workspace = await make_workspace(service_url, flavor="t4-small")
    jobs = [
        await call_for_result(
            service_url, "launch_job", **LAUNCH_ARGUMENTS, workspace_id=workspace, name=f"n{n}"
        )
        for n in range(6)
    ]
    await call_for_result(service_url, "cancel_job", job_id=jobs[0]["job_id"])

    answer = await call_tool(service_url, "workspace_status", workspace_id=workspace)

    view = answer.structured_content
    assert (view["jobs"], view["open_jobs"]) == (6, 5)
    assert view["states"] == {"queued": 5, "cancelled": 1}
    assert [job["title"] for job in view["latest_jobs"]] == ["n5", "n4", "n3", "n2", "n1"]
    assert "Launches into it take flavor t4-small." in answer_text(answer)


@pytest.mark.parametrize("tool", ["create_workspace", "update_workspace", "archive_workspace"])
async def test_a_token_that_may_only_read_changes_no_workspace(service_url: str, tool: str) -> None:
    """It may look at every one."""
    workspace = await make_workspace(service_url)
    whose = {"name": "new"} if tool == "create_workspace" else {"workspace_id": workspace}

    answer = await call_tool(service_url, tool, caller_token="hf_reader", **whose)

    assert read_refusal(answer)["code"] == "InsufficientScope"
    seen = await call_for_result(
        service_url, "workspace_status", caller_token="hf_reader", workspace_id=workspace
    )
    assert seen["archived_at"] is None
