"""The checks of `holdfast doctor` on a database that is there."""

import base64
import os
from collections.abc import Callable

import pytest

from schema.settings import Settings
from service.cli import doctor
from tests.support.hub.fake_hub import FakeHub


@pytest.fixture
def configure(
    make_settings: Callable[..., Settings], fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Return a function that configures the environment with a key ring."""

    def set_variables(key_ring: str) -> None:
        settings = make_settings()
        for name, value in {
            "DATABASE_URL": settings.database_url,
            "REDIS_URL": settings.redis_url,
            "HUB_URL": fake_hub.url,
            "VAULT_KEYS": key_ring,
        }.items():
            monkeypatch.setenv(f"HOLDFAST_{name}", str(value))

    return set_variables


async def find(component: str) -> doctor.Finding:
    [finding] = [each for each in await doctor.run_checks() if each.component == component]
    return finding


async def test_a_new_key_beside_what_an_old_one_sealed_is_noticed(
    configure: Callable[[str], None], vault_keys: str, ada_id: str
) -> None:
    """Jobs would wait for tokens and fail for secrets, each with a reason of its own."""
    del ada_id  # whose token is stored
    configure(vault_keys)
    before = await find("vault")
    configure(f"1:{base64.b64encode(os.urandom(32)).decode()}")
    after = await find("vault")

    assert before.is_ok
    assert not after.is_ok
    assert "does not open 1 of the stored tokens" in after.remedy
    assert "Put that key back" in after.remedy


async def test_a_misspelled_setting_is_named_with_the_one_that_was_meant(
    configure: Callable[[str], None], vault_keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process would run with the default, and nobody would know why."""
    configure(vault_keys)
    before = await find("settings")
    monkeypatch.setenv("HOLDFAST_RETENTOIN", "90d")
    monkeypatch.setenv("holdfast_retention", "90d")
    after = await find("settings")

    assert before.is_ok
    assert not after.is_ok
    assert after.message == "1 unknown variable"
    assert "HOLDFAST_RETENTOIN is no setting. Did you mean HOLDFAST_RETENTION" in after.remedy
