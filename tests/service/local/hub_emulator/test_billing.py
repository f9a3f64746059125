"""Who pays at the local Hub, and what is left of ZeroGPU: read with the official client."""

# The client library leaves these partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from service.local.hub_emulator.users import (
    ZERO_GPU_SECONDS,
    ZERO_GPU_SECONDS_LEFT,
    LocalTokenKind,
    Permission,
)
from tests.support.hub.emulator_process import HubEmulatorProcess

BILLING_FIELDS: Final = {"canPay", "billingMode"}


@pytest.mark.parametrize("kind", list(LocalTokenKind))
def test_a_token_for_everything_shows_the_quota(
    hub_emulator: HubEmulatorProcess, kind: LocalTokenKind
) -> None:
    """`build_zero_gpu_quota` has the form that the official client reads."""
    quota = hub_emulator.api("alice", kind).get_zero_gpu_quota()

    assert (quota.base, quota.remaining) == (ZERO_GPU_SECONDS, ZERO_GPU_SECONDS_LEFT)
    assert quota.overquota_used == 0
    assert quota.resets_at is not None
    assert timedelta(0) < quota.resets_at - datetime.now(UTC) <= timedelta(hours=3)


def test_who_may_not_read_billing_sees_neither_quota_nor_who_pays(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """The plan of an organisation is no secret to its members."""
    token = hub_emulator.fine_grained_token(Permission.WRITE_JOBS)
    api = HfApi(endpoint=hub_emulator.url, token=token)

    with pytest.raises(HfHubHTTPError, match=r"missing permissions: user\.billing\.read"):
        api.get_zero_gpu_quota()
    assert not api.whoami().keys() & BILLING_FIELDS


def test_who_may_read_billing_sees_both(hub_emulator: HubEmulatorProcess) -> None:
    """One permission is for both, as the official client documents it."""
    api = HfApi(
        endpoint=hub_emulator.url, token=hub_emulator.fine_grained_token(Permission.READ_BILLING)
    )

    assert api.get_zero_gpu_quota().base == ZERO_GPU_SECONDS
    assert api.whoami()["canPay"] is True


def test_a_stranger_has_no_quota(hub_emulator: HubEmulatorProcess) -> None:
    """The client tells this 401 from a Space that is missing."""
    with pytest.raises(HfHubHTTPError, match="a valid token is required"):
        HfApi(endpoint=hub_emulator.url, token="hf_no").get_zero_gpu_quota()


def test_who_pays_is_said_of_people_and_of_their_organisations(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Carol has no credits."""
    alice, carol = (hub_emulator.api(name).whoami() for name in ("alice", "carol"))

    assert (alice["canPay"], carol["canPay"]) == (True, False)
    [acme] = alice["orgs"]
    assert (acme["plan"], acme["canPay"], acme["spendLimitReached"]) == ("team", True, False)
