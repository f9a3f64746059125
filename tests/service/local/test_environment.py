"""What a child of the local stack knows of the world."""

import stat
from pathlib import Path

from schema.accounts.vault import Vault
from service.local.environment import child_environment, service_environment


def _make_environment(
    folder: Path, *, hub_is_local: bool = True, **variables: str
) -> dict[str, str]:
    return service_environment(
        folder,
        variables,
        database_url="postgresql://db/holdfast",
        redis_url="redis://redis/0",
        hub_url="http://127.0.0.1:9000",
        hub_is_local=hub_is_local,
        public_url="http://127.0.0.1:8765",
    )


def test_the_token_of_the_shells_owner_is_withheld(tmp_path: Path) -> None:
    """The service acts for whoever calls it; a token it could fall back on would be a hole."""
    environment = child_environment(tmp_path, {"HF_TOKEN": "hf_mine", "PATH": "/bin"})

    assert "HF_TOKEN" not in environment
    assert environment["PATH"] == "/bin"
    assert environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    assert environment["HF_HOME"].startswith(str(tmp_path))


def test_the_key_ring_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """What was sealed yesterday has to open today, and nobody else may read the key."""
    ring = _make_environment(tmp_path)["HOLDFAST_VAULT_KEYS"]

    assert Vault.from_key_ring(ring)
    assert _make_environment(tmp_path)["HOLDFAST_VAULT_KEYS"] == ring
    assert stat.S_IMODE((tmp_path / "vault.keys").stat().st_mode) == 0o600


def test_a_setting_of_the_person_wins_over_ours(tmp_path: Path) -> None:
    """Only where the servers are is ours to say."""
    environment = _make_environment(
        tmp_path,
        HOLDFAST_OBSERVE_MIN="3s",
        HOLDFAST_PUBLIC_URL="https://jobs.example",
        HOLDFAST_DATABASE_URL="postgresql://old/holdfast",
    )

    assert environment["HOLDFAST_OBSERVE_MIN"] == "3s"
    assert environment["HOLDFAST_PUBLIC_URL"] == "https://jobs.example"
    assert environment["HOLDFAST_DATABASE_URL"] == "postgresql://db/holdfast"


def test_the_real_hub_is_not_asked_as_often_as_the_local_one(tmp_path: Path) -> None:
    """The local one has no rate limit to respect, and a demo should not wait."""
    for setting in ("HOLDFAST_OBSERVE_MIN", "HOLDFAST_SWEEP"):
        assert _make_environment(tmp_path)[setting] == "0.5s"
        assert setting not in _make_environment(tmp_path, hub_is_local=False)
    assert "HOLDFAST_ROUTER_URL" not in _make_environment(tmp_path, hub_is_local=False)
