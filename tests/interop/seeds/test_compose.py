"""The profile of compose.yaml that starts Authgent beside Holdfast."""

import re
from typing import Any

import pytest

from schema.settings import Settings
from tests.interop.seeds.compose_file import read_compose
from tests.support.paths import DOCS, REPOSITORY


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of compose.yaml with that profile, as Docker Compose reads them."""
    return read_compose("--profile", "authgent")


def test_authgent_runs_only_when_it_is_wanted(services: dict[str, Any]) -> None:
    """Nobody gets a server that lets everybody in without having named it."""
    assert services.keys() - read_compose().keys() == {"authgent"}


def test_authgent_is_found_under_its_name(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the service inside, and by a browser outside; the lines of the page are good settings."""
    authgent = services["authgent"]
    issuer = authgent["environment"]["AUTHGENT_SERVER_URL"]
    ((name, port),) = re.findall(r"^http://([a-z.]+):(\d+)$", issuer)
    page = (DOCS / "auth.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```\n([^`]*authgent[^`]*)```", page)
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", "postgresql://h")
    monkeypatch.setenv("HOLDFAST_REDIS_URL", "redis://h")
    monkeypatch.setenv("HOLDFAST_VAULT_KEYS", "1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    for line in lines.split():
        monkeypatch.setenv(*line.split("=", 1))
    settings = Settings.from_env()

    assert (settings.auth, settings.jwt_issuer, settings.jwt_plain_hosts) == (
        "jwt",
        issuer,
        (name,),
    )
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^#   (HOLDFAST_.*)$", example, re.MULTILINE) == lines.split()
    assert name in authgent["networks"]["default"]["aliases"]
    assert authgent["ports"][0]["published"] == port
    assert authgent["ports"][0]["host_ip"] == "127.0.0.1"


def test_each_process_of_ours_has_each_setting(services: dict[str, Any]) -> None:
    """What is written in `.env` reaches all of them, and compose.yaml overrides only its own."""
    ours = {name: each for name, each in services.items() if each["image"] == "holdfast:local"}

    assert ours.keys() == {"migrate", "service", "worker"}
    for name, each in ours.items():
        assert [file["path"].rpartition("/")[2] for file in each["env_file"]] == [".env"], name
        assert each["environment"].keys() == {
            *("HOLDFAST_DATABASE_URL", "HOLDFAST_REDIS_URL", "HOLDFAST_VAULT_KEYS")
        }, name
