"""What is said of a Space before it is called: of whom it is asked, and how long it is kept."""

from typing import Any

import pytest

from schema.jobs.tables import JobKind, Reason
from service.jobs import retries
from service.views.diagnosis.diagnose import diagnose
from tests.service.conftest import Start
from tests.service.stand_in import ADAS, ASLEEP, Whoami, call, refusal, shown, text
from tests.service.test_views import status

GONE = "nobody/here"


async def test_a_space_that_sleeps_is_called_and_checked_when_it_is_awake(
    service: str, hub: Whoami
) -> None:
    """A launch answers at once; waking it is the worker's, who has the time."""
    view = await shown(service, "launch_space_call", space=ASLEEP, api_name="x", arguments=["y"])

    assert (view["state"], view["kind"]) == ("queued", "space_call")
    assert "is asleep, so what it takes is checked only when the call is made" in view["notes"][0]


async def test_what_one_subject_may_see_is_told_to_no_other(service: str, hub: Whoami) -> None:
    """Kept for a moment, but by subject: a private Space is not there for others."""
    for by in (ADAS, ADAS, "hf_bob"):
        await shown(service, "launch_space_call", by=by, space=ASLEEP)

    assert hub.looked_for == [(ADAS, ASLEEP), ("hf_bob", ASLEEP)]


async def test_a_space_that_is_not_there_makes_no_job(service: str, hub: Whoami) -> None:
    answer = await call(service, "launch_space_call", space=GONE)

    assert refusal(answer)["code"] == "Invalid"
    assert f"There is no Space {GONE}, or your token may not see it." in text(answer)
    assert (await shown(service, "list_jobs"))["jobs"] == []


async def test_while_the_hub_is_away_nothing_is_launched_that_nobody_has_checked(
    start: Start, hub: Whoami
) -> None:
    """And nothing is taken for missing because nobody could say."""
    given = {"space": ASLEEP, "idempotency_key": "kept"}
    with start() as service:
        first = await shown(service, "launch_space_call", **given)
    hub.answers_spaces = False
    with start() as restarted:  # which remembers nothing of the Space
        unseen = await call(restarted, "launch_space_call", space=ASLEEP)
        again = await shown(restarted, "launch_space_call", **given)

    assert refusal(unseen)["code"] == "Unavailable"
    # What a key has made is found, whatever has become of the Space.
    assert again["job_id"] == first["job_id"]
    assert len(hub.looked_for) == 2


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
            "The Space a/b ended the call with an error, and keeps it to itself.",
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
    failed = status(
        kind=JobKind.SPACE_CALL, state="failed", reason=reason, message=message, spec=spec
    )

    found = diagnose(failed)

    assert why in found.why
    assert remedy in found.remedy
    assert found.evidence == [f"Holdfast saw: {message}"]
    again = retries.rewrite(failed, {"space": "c/d", "arguments": {"x": 1}}, {})
    assert (again.spec.stored()["space"], again.changed) == (
        "c/d",
        frozenset({"space", "arguments"}),
    )
