"""The tool `whoami`: who pays at the Hub, and what is left of ZeroGPU."""

from typing import Any, Final

import pytest
from starlette.responses import JSONResponse, Response

from service.auth.token_verifier import TokenVerifier
from service.mcp.tools.account import whoami
from tests.support.hub.fake_hub import FakeHub
from tests.support.mcp.client import answer_text, call_for_result, call_tool

QUOTA: Final = {
    "base": 2400,
    "current": 1810.5,
    "resetsAt": "2026-09-30T09:12:03.000Z",
    "overquotaUsed": 7,
    "runs": {"used": 1, "limit": 20, "remaining": 19, "resetsAt": None},
}


def show_billing(hub: FakeHub, **fields: Any) -> None:
    """Let Ada's token see who pays."""
    hub.whoami_by_token["hf_ada"] |= {"isPro": True, "canPay": True, **fields}


async def test_a_token_that_may_read_billing_shows_all(service_url: str, fake_hub: FakeHub) -> None:
    """The same in words, for hosts that hand on nothing else."""
    show_billing(fake_hub)
    fake_hub.quota_by_token["hf_ada"] = JSONResponse(QUOTA)

    answer = await call_tool(service_url, whoami.__name__)

    view = answer.structured_content
    assert view is not None
    assert (view["plan"], view["can_pay"], view["billing_note"]) == ("pro", True, None)
    assert view["zero_gpu"] == {
        "limit_seconds": 2400,
        "used_seconds": 589.5,
        "left_seconds": 1810.5,
        "resets_at": "2026-09-30T09:12:03Z",
        "paid_seconds": 7,
    }
    assert "Plan at Hugging Face: pro. ada can pay for jobs." in answer_text(answer)
    assert "ZeroGPU: 590 of 2,400 s used, 1,810 s left" in answer_text(answer)
    assert "all again at 2026-09-30 09:12:03 UTC." in answer_text(answer)


async def test_a_quota_that_is_whole_has_no_moment(service_url: str, fake_hub: FakeHub) -> None:
    """The Hub begins to count at the first use."""
    show_billing(fake_hub)
    fake_hub.quota_by_token["hf_ada"] = JSONResponse(
        {"base": 300, "current": 300, "resetsAt": None}
    )

    answer = await call_tool(service_url, "whoami")

    assert "ZeroGPU: 0 of 300 s used, 300 s left." in answer_text(answer)


async def test_a_token_that_may_not_is_told_which_scope_would(service_url: str) -> None:
    """Unknown is not no: a model must not tell a person that they cannot pay."""
    answer = await call_tool(service_url, "whoami")

    view = answer.structured_content
    assert view is not None
    assert (view["plan"], view["can_pay"], view["zero_gpu"]) == (None, None, None)
    assert view["unpaid_namespaces"] == []
    assert "scope read-billing (permission user.billing.read)" in view["billing_note"]
    assert view["billing_note"] in answer_text(answer)
    assert "cannot pay" not in answer_text(answer)


async def test_whoever_cannot_pay_is_named(service_url: str, fake_hub: FakeHub) -> None:
    """Before a launch fails for it: the person, and each organisation."""
    show_billing(
        fake_hub,
        isPro=False,
        canPay=False,
        orgs=[
            {"name": "broke", "roleInOrg": "write", "canPay": False},
            {"name": "spent", "roleInOrg": "write", "canPay": True, "spendLimitReached": True},
            {"name": "solvent", "roleInOrg": "write", "canPay": True},
            {"name": "reader", "roleInOrg": "read", "canPay": False},
        ],
    )

    answer = await call_tool(service_url, "whoami")

    view = answer.structured_content
    assert view is not None
    assert (view["plan"], view["can_pay"]) == ("free", False)
    assert view["unpaid_namespaces"] == ["ada", "broke", "spent"]
    assert "ada cannot pay for jobs: add credits" in answer_text(answer)
    assert "Cannot pay, or at their spend limit: broke, spent." in answer_text(answer)


@pytest.mark.parametrize(
    "response",
    [
        Response(status_code=503),
        JSONResponse({"error": "too many"}, 429, {"retry-after": "60"}),
        JSONResponse({"base": "a lot"}),
    ],
    ids=["outage", "rate limit", "unreadable"],
)
async def test_a_hub_that_does_not_say_costs_only_the_quota(
    service_url: str, fake_hub: FakeHub, response: Response
) -> None:
    """The rest of the answer is right without it."""
    show_billing(fake_hub)
    fake_hub.quota_by_token["hf_ada"] = response

    view = await call_for_result(service_url, "whoami")

    assert (view["can_pay"], view["zero_gpu"]) == (True, None)
    assert "did not say" in view["billing_note"]


async def test_each_token_has_a_quota_of_its_own(service_url: str, fake_hub: FakeHub) -> None:
    """`TokenVerifier.read_zero_gpu_quota` remembers it, and shows it to nobody else."""
    assert TokenVerifier.read_zero_gpu_quota.__name__
    fake_hub.quota_by_token["hf_ada"] = JSONResponse(QUOTA)

    first = await call_for_result(service_url, "whoami")
    other = await call_for_result(service_url, "whoami", caller_token="hf_bob")

    assert (first["zero_gpu"]["left_seconds"], other["zero_gpu"]) == (1810.5, None)


async def test_no_flag_that_is_only_shown_keeps_anybody_out(
    service_url: str, fake_hub: FakeHub
) -> None:
    """The Hub may send null, or a word of tomorrow."""
    organisation = {"name": "acme", "roleInOrg": "write", "canPay": "soon"}
    fake_hub.whoami_by_token["hf_ada"] |= {
        "isPro": {"tier": 2},
        "canPay": None,
        "orgs": [organisation | {"spendLimitReached": None}],
    }

    view = await call_for_result(service_url, "whoami")

    assert (view["plan"], view["can_pay"]) == (None, None)
