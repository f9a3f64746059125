"""How what somebody has begun to type goes on."""

import json
from typing import Any

import pytest

from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import call_for_result
from tests.support.mcp.observed_answers import ProtocolVariant, send_message
from tests.support.subjects import ADA_TOKEN


async def complete(
    url: str, ref: str, argument: str, value: str, variant: ProtocolVariant = ProtocolVariant.MODERN
) -> dict[str, Any]:
    """Ask how it goes on, in an address or an argument of a prompt."""
    kind = (
        {"type": "ref/resource", "uri": ref} if ":" in ref else {"type": "ref/prompt", "name": ref}
    )
    params = {"ref": kind, "argument": {"name": argument, "value": value}}
    answer = await send_message(url, variant, "completion/complete", params, ADA_TOKEN)
    completion: dict[str, Any] = json.loads(answer.body)["result"]["completion"]
    return completion


@pytest.mark.parametrize("way", [ProtocolVariant.LEGACY, ProtocolVariant.MODERN])
@pytest.mark.parametrize(
    ("ref", "argument"),
    [("job://{id}", "id"), ("job://{id}/logs", "id"), ("diagnose_job", "job_id")],
)
async def test_a_job_goes_on_from_any_beginning_of_its_handle(
    service_url: str, make_job: JobFactory, ref: str, argument: str, way: ProtocolVariant
) -> None:
    """The newest first, for that is mostly the one meant."""
    made = [job_handle((await make_job()).id) for _ in range(3)]

    for begun in ("", "j", "job_", made[0][:7], f" {made[0][:9].upper()}"):
        completion = await complete(service_url, ref, argument, begun, way)
        assert completion["values"] == sorted(made, reverse=True), begun
    assert (await complete(service_url, ref, argument, made[1], way))["values"] == [made[1]]
    for begun in ("x", "ws_", "job_zzz", "job_!", f"{made[0]}0"):
        assert (await complete(service_url, ref, argument, begun, way))["values"] == []


async def test_a_workspace_goes_on_too(service_url: str) -> None:
    """In an address, and in every prompt that takes one."""
    workspace = (await call_for_result(service_url, "create_workspace", name="mine"))[
        "workspace_id"
    ]

    for ref, argument in (
        ("workspace://{id}", "id"),
        ("run_and_watch", "workspace_id"),
        ("compare_runs", "workspace_id"),
    ):
        assert (await complete(service_url, ref, argument, "ws_"))["values"] == [workspace]


async def test_several_jobs_are_completed_one_after_another(
    service_url: str, make_job: JobFactory
) -> None:
    """What stands before the comma stays, and is not offered twice."""
    one, other = [job_handle((await make_job()).id) for _ in range(2)]

    completion = await complete(service_url, "compare_runs", "job_ids", f"{one},")

    assert completion["values"] == [f"{one},{other}"]


async def test_hardware_and_states_go_on(service_url: str) -> None:
    """What there is to choose from need not be remembered."""
    flavors = (await complete(service_url, "run_and_watch", "flavor", "T4"))["values"]
    states = (await complete(service_url, "compare_runs", "state", "su"))["values"]

    assert flavors == ["t4-small", "t4-medium"]
    assert states == ["succeeded"]


async def test_what_nobody_can_guess_is_not_guessed(service_url: str) -> None:
    """The task is the person's own, and an argument that there is not has no values."""
    for argument in ("task", "tone"):
        assert (await complete(service_url, "run_and_watch", argument, ""))["values"] == []
    assert (await complete(service_url, "job://{id}", "flavor", ""))["values"] == []


async def test_a_long_list_is_cut_off_and_says_so(service_url: str, make_job: JobFactory) -> None:
    """A menu of a thousand is none."""
    for _ in range(51):
        await make_job()

    completion = await complete(service_url, "diagnose_job", "job_id", "job_")

    assert (len(completion["values"]), completion["hasMore"]) == (50, True)
