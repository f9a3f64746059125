"""What is said of a Space before it is called: of whom it is asked, and how long it is kept."""

from typing import Any

import pytest

from schema.jobs.tables import JobKind, Reason
from service.jobs import retries
from service.views.diagnosis.diagnose import diagnose
from tests.support.factories import StartService
from tests.support.hub.fake_hub import SLEEPING_SPACE, FakeHub
from tests.support.jobs.job_statuses import make_status
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_TOKEN

MISSING_SPACE = "nobody/here"


async def test_a_space_that_sleeps_is_called_and_checked_when_it_is_awake(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A launch answers at once; waking it is the worker's, who has the time."""
    view = await call_for_result(
        service_url, "launch_space_call", space=SLEEPING_SPACE, api_name="x", arguments=["y"]
    )

    assert (view["state"], view["kind"]) == ("queued", "space_call")
    assert "is asleep, so what it takes is checked only when the call is made" in view["notes"][0]


async def test_what_one_subject_may_see_is_told_to_no_other(
    service_url: str, fake_hub: FakeHub
) -> None:
    """Kept for a moment, but by subject: a private Space is not there for others."""
    for caller_token in (ADA_TOKEN, ADA_TOKEN, "hf_bob"):
        await call_for_result(
            service_url, "launch_space_call", caller_token=caller_token, space=SLEEPING_SPACE
        )

    assert fake_hub.space_lookups == [(ADA_TOKEN, SLEEPING_SPACE), ("hf_bob", SLEEPING_SPACE)]


async def test_a_space_that_is_not_there_makes_no_job(service_url: str, fake_hub: FakeHub) -> None:
    answer = await call_tool(service_url, "launch_space_call", space=MISSING_SPACE)

    assert read_refusal(answer)["code"] == "Invalid"
    assert f"There is no Space {MISSING_SPACE}, or your token may not see it." in answer_text(
        answer
    )
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


async def test_while_the_hub_is_away_nothing_is_launched_that_nobody_has_checked(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """And nothing is taken for missing because nobody could say."""
    arguments = {"space": SLEEPING_SPACE, "idempotency_key": "kept"}
    with start_service() as service:
        first = await call_for_result(service, "launch_space_call", **arguments)
    fake_hub.answers_spaces = False
    with start_service() as restarted:  # which remembers nothing of the Space
        unseen = await call_tool(restarted, "launch_space_call", space=SLEEPING_SPACE)
        again = await call_for_result(restarted, "launch_space_call", **arguments)

    assert read_refusal(unseen)["code"] == "Unavailable"
    # What a key has made is found, whatever has become of the Space.
    assert again["job_id"] == first["job_id"]
    assert len(fake_hub.space_lookups) == 2


@pytest.mark.parametrize(
    ("reason", "message", "why", "remedy"),
    [
        (
            Reason.INSUFFICIENT_CREDITS,
            "The Space a/b said: ZeroGPU quota exceeded: 60s requested. Try again in 2:05:11",
            "your ZeroGPU quota is used up for 2:05:11",
            "subscribe to PRO",
        ),
        (
            Reason.INSUFFICIENT_CREDITS,
            "The Space a/b said: You have exceeded your GPU quota (60s requested vs. 0s left).",
            "your ZeroGPU quota is used up.",
            "PRO has more of it",
        ),
        (
            Reason.EXIT_NONZERO,
            "The Space a/b said: No GPU was available after 60s",
            "no GPU of ZeroGPU was free",
            "That passes: call retry_job",
        ),
        (
            Reason.EXIT_NONZERO,
            "The Space a/b said: flavor not found: no such image",
            "the Space a/b ended the call with an error",
            "overriding arguments or api_name",
        ),
        (
            Reason.EXIT_NONZERO,
            "The Space a/b ended the call with an error, and gave no reason.",
            "the Space a/b ended the call with an error",
            "retry_job",
        ),
        (
            Reason.HUB_UNAVAILABLE,
            "The Space a/b was paused by its owner.",
            "only the owner of the Space a/b can bring it back",
            "overriding space",
        ),
        (
            Reason.HUB_UNAVAILABLE,
            "The Space a/b was not ready within 10m; nothing was started.",
            "the Space a/b did not wake in time",
            "It may be awake by now: call retry_job",
        ),
        (
            Reason.INVALID_REQUEST,
            "The Space a/b does not exist, or your token may not see it.",
            "there is no Space a/b that your token may see",
            "overriding space",
        ),
    ],
)
def test_what_a_space_did_not_do_has_its_reason_and_its_remedy(
    reason: Reason, message: str, why: str, remedy: str
) -> None:
    """Whatever words an app uses: no symptom of a command is read out of them."""
    spec: dict[str, Any] = {"space": "a/b", "api_name": "/x", "arguments": [], "timeout": 600}
    failed = make_status(
        kind=JobKind.SPACE_CALL, state="failed", reason=reason, message=message, spec=spec
    )

    diagnosis = diagnose(failed)

    assert why in diagnosis.cause
    assert remedy in diagnosis.remedy
    assert diagnosis.evidence == [f"Holdfast saw: {message}"]
    again = retries.plan_retry(failed, {"space": "c/d", "arguments": {"x": 1}}, {})
    assert (again.spec.to_stored_json()["space"], again.changed_fields) == (
        "c/d",
        frozenset({"space", "arguments"}),
    )
