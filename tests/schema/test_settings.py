"""What the environment may say, and how it is told that it says something wrong."""

import os
import re
from base64 import b64encode
from datetime import timedelta
from typing import Final

import pytest
from pydantic import ValidationError

from schema.common.errors import Invalid
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.web.sign_in import sign_in_scopes
from tests.support.paths import DOCS, REPOSITORY

VALID_ENVIRONMENT = {
    "HOLDFAST_DATABASE_URL": "postgresql://u:p@h/d",
    "HOLDFAST_REDIS_URL": "redis://h/0",
    "HOLDFAST_VAULT_KEYS": f"1:{b64encode(os.urandom(32)).decode()}",
}

SETTINGS_FOR_OPERATORS = set(Settings.model_fields) - {"failpoint"}
"""A failpoint is for crash tests alone."""


@pytest.fixture(autouse=True)
def minimal_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with nothing in it but what is needed."""
    for name in os.environ:
        if name.startswith("HOLDFAST_") or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)
    for name, value in VALID_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_three_variables_are_enough() -> None:
    """Everything else has a default that is right for most."""
    assert Settings.from_env().lease == timedelta(seconds=90)


@pytest.mark.parametrize(("written", "seconds"), [("30", 30), ("30s", 30), ("1h30m", 5400)])
def test_durations_are_read_as_people_write_them(
    minimal_environment: pytest.MonkeyPatch, written: str, seconds: int
) -> None:
    """A bare number is seconds."""
    minimal_environment.setenv("HOLDFAST_RETENTION", written)

    assert Settings.from_env().retention == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("DATABASE_URL", "mysql://h/d"),
        ("REDIS_URL", "http://h"),
        ("VAULT_KEYS", "1:dG9vIHNob3J0"),
        ("AUTH", "none"),
        ("HUB_URL", "huggingface"),
        ("SWEEP", "0"),
        ("LEASE", "10s"),
        ("CALLS_PER_MINUTE", "-1"),
        ("OPEN_JOBS", "0"),
        ("JWT_ISSUER", "http://id.example"),
        ("JWT_ISSUER", "https://id.example?realm=a"),
        ("JWT_JWKS_URL", "file:///etc/passwd"),
        ("JWT_LEEWAY", "1h"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(
    minimal_environment: pytest.MonkeyPatch, name: str, wrong: str
) -> None:
    """The message goes to a terminal or a log; the value may be a password."""
    minimal_environment.setenv(f"HOLDFAST_{name}", wrong)

    with pytest.raises(Invalid) as refused:
        Settings.from_env()

    assert f"HOLDFAST_{name}" in str(refused.value)
    assert "Value error" not in str(refused.value)
    assert name in {"LEASE", "SWEEP"} or wrong not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "without_scheme", "example"),
    [
        ("HUB_URL", "huggingface.co", "such as https://"),
        ("PUBLIC_URL", "jobs.example", "such as https://"),
        ("DATABASE_URL", "db/holdfast", "such as postgresql://"),
        ("REDIS_URL", "redis", "such as redis://"),
    ],
)
def test_a_url_without_a_scheme_is_answered_with_the_form_of_a_whole_one(
    minimal_environment: pytest.MonkeyPatch, name: str, without_scheme: str, example: str
) -> None:
    """ "Relative URL without a base" helps only those who know what it means."""
    minimal_environment.setenv(f"HOLDFAST_{name}", without_scheme)

    with pytest.raises(Invalid, match=example):
        Settings.from_env()


def test_everything_that_is_missing_is_named_at_once(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """Nobody likes to be told one thing at a time."""
    for name in VALID_ENVIRONMENT:
        minimal_environment.delenv(name)

    with pytest.raises(Invalid) as refused:
        Settings.from_env()

    assert all(name in str(refused.value) for name in VALID_ENVIRONMENT)


def test_the_usual_names_of_the_servers_are_understood(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """Hosts set DATABASE_URL and REDIS_URL by themselves."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        minimal_environment.delenv(f"HOLDFAST_{name}")
        minimal_environment.setenv(name, VALID_ENVIRONMENT[f"HOLDFAST_{name}"])

    assert str(Settings.from_env().database_url) == VALID_ENVIRONMENT["HOLDFAST_DATABASE_URL"]


def test_an_authorization_server_that_vouches_has_a_name(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """Without it any signature would be somebody's."""
    minimal_environment.setenv("HOLDFAST_AUTH", "jwt")

    with pytest.raises(Invalid, match="HOLDFAST_AUTH=jwt needs HOLDFAST_JWT_ISSUER"):
        Settings.from_env()


def test_an_issuer_is_kept_letter_by_letter(minimal_environment: pytest.MonkeyPatch) -> None:
    """Auth0's ends in a slash, Keycloak's does not, and tokens are compared with it."""
    for issuer in ("https://a.auth0.com/", "https://id.example/realms/a", "http://localhost:8080"):
        minimal_environment.setenv("HOLDFAST_JWT_ISSUER", issuer)

        assert Settings.from_env().jwt_issuer == issuer


def test_tokens_are_made_for_our_endpoint_unless_said_otherwise(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """It is what our metadata tells clients to ask for, without a slash at its end."""
    minimal_environment.setenv("HOLDFAST_PUBLIC_URL", "https://holdfast.example")
    assert Settings.from_env().token_audiences == ("https://holdfast.example/mcp",)

    minimal_environment.setenv("HOLDFAST_JWT_AUDIENCE", "api://holdfast")
    assert Settings.from_env().token_audiences == ("api://holdfast",)


def test_http_is_allowed_to_a_host_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a compose file, where a server has the name of its container and no certificate."""
    monkeypatch.setenv("HOLDFAST_JWT_ISSUER", "http://authgent:8080")
    with pytest.raises(Invalid, match="HOLDFAST_JWT_PLAIN_HOSTS allows http://"):
        Settings.from_env()

    monkeypatch.setenv("HOLDFAST_JWT_PLAIN_HOSTS", "keycloak, authgent")
    assert Settings.from_env().jwt_issuer == "http://authgent:8080"

    monkeypatch.setenv("HOLDFAST_JWT_JWKS_URL", "http://authgent.evil.example/jwks")
    with pytest.raises(Invalid, match="HOLDFAST_JWT_JWKS_URL has to be"):
        Settings.from_env()


def test_metadata_are_written_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server would, which left them out."""
    document = '{"token_endpoint_auth_methods_supported": ["client_secret_post"]}'
    monkeypatch.setenv("HOLDFAST_OAUTH_METADATA", document)

    assert Settings.from_env().oauth_metadata == {
        "token_endpoint_auth_methods_supported": ["client_secret_post"]
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [("mcp:write", "jobs=NAME"), ("job=mcp:write", "JWT_SCOPES"), ('jobs="w"', "JWT_SCOPES")],
)
def test_a_scope_that_is_no_name_of_a_scope_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    """A typing error would let everybody launch, or nobody."""
    monkeypatch.setenv("HOLDFAST_JWT_SCOPES", value)

    with pytest.raises(Invalid, match=problem):
        Settings.from_env()


def test_settings_do_not_change_and_do_not_print_their_keys() -> None:
    """They are read once; and printed, sooner or later."""
    settings = Settings.from_env()

    with pytest.raises(ValidationError):
        settings.lease = timedelta(1)  # type: ignore[misc]  # that is the point
    assert VALID_ENVIRONMENT["HOLDFAST_VAULT_KEYS"] not in repr(settings)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("https://a.example", ("https://a.example",)),
        (
            "https://A.example:443/, http://b.example:80\nhttps://c.example:8443",
            ("https://a.example", "http://b.example", "https://c.example:8443"),
        ),
        ("vscode-webview://abc-1", ("vscode-webview://abc-1",)),
    ],
)
def test_allowed_origins_are_written_as_browsers_send_them(
    minimal_environment: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    """People copy an address out of their browser, with a slash or a port."""
    minimal_environment.setenv("HOLDFAST_ALLOWED_ORIGINS", text)

    assert Settings.from_env().allowed_origins == origins


@pytest.mark.parametrize("text", ["*", "null", "inspector.example", "https://a.example/path"])
def test_what_is_no_origin_is_refused_at_the_start(
    minimal_environment: pytest.MonkeyPatch, text: str
) -> None:
    """A wrong one would allow nobody, and nobody would know why."""
    minimal_environment.setenv("HOLDFAST_ALLOWED_ORIGINS", text)

    with pytest.raises(Invalid, match=r"HOLDFAST_ALLOWED_ORIGINS.*https://inspector\.example"):
        Settings.from_env()


def test_how_many_jobs_run_at_a_time_is_set_in_all_and_for_a_kind(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """A kind without a setting has no limit of its own."""
    assert (Settings.from_env().max_active, Settings.from_env().max_active_by_kind) == (100, {})
    minimal_environment.setenv("HOLDFAST_MAX_ACTIVE", "7")
    for kind in JobKind:
        minimal_environment.setenv(f"HOLDFAST_MAX_ACTIVE_{kind.upper()}", "2")

    settings = Settings.from_env()

    assert settings.max_active == 7
    assert settings.max_active_by_kind == dict.fromkeys(JobKind, 2)


@pytest.mark.parametrize("name", ["HOLDFAST_MAX_ACTIVE", "HOLDFAST_MAX_ACTIVE_BATCH"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "100001"])
def test_a_limit_of_running_jobs_is_a_number_from_one(
    minimal_environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """With none at all every job would wait for ever."""
    minimal_environment.setenv(name, value)

    with pytest.raises(Invalid, match=name):
        Settings.from_env()


def test_the_example_of_a_settings_file_has_each_setting_with_its_default() -> None:
    """The file is what compose.yaml passes on, and what an operator reads first."""
    text = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    values = dict(re.findall(r"^#HOLDFAST_([A-Z_]+)=(.*)$", text, re.MULTILINE))

    assert {name.lower() for name in values} == SETTINGS_FOR_OPERATORS
    required = dict(VALID_ENVIRONMENT, vault_keys=VALID_ENVIRONMENT["HOLDFAST_VAULT_KEYS"])
    for name, value in values.items():
        field = Settings.model_fields[name.lower()]
        if value:
            settings = Settings.model_validate(required | {name.lower(): value})
            assert getattr(settings, name.lower()) == field.default, name
        else:
            assert field.is_required() or field.default in (None, (), {}), name


SPACE_ENVIRONMENT: Final = {
    "SPACE_HOST": "ada-holdfast.hf.space",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
    "OAUTH_CLIENT_ID": "an-id",
    "OAUTH_CLIENT_SECRET": "a-secret",
    "OAUTH_SCOPES": "openid profile jobs",
}
"""What a Space with `hf_oauth: true` finds."""


def test_a_space_signs_people_in_through_its_own_application(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """It knows where it is reached, so nothing of that has to be written down."""
    for name, value in SPACE_ENVIRONMENT.items():
        minimal_environment.setenv(name, value)

    settings = Settings.from_env()

    assert str(settings.public_url) == "https://ada-holdfast.hf.space/"
    assert str(settings.hub_url) == "https://huggingface.co/"
    assert settings.oauth_client_secret is not None
    assert settings.oauth_client_secret.get_secret_value() == "a-secret"
    assert (settings.oauth_client_id, settings.hf_oauth_client_id) == ("an-id", None)
    assert sign_in_scopes(settings) == ("openid", "profile", "jobs")


def test_a_space_behind_an_authorization_server_connects_accounts(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """People sign in there, so the application of the Space is for their accounts at the Hub."""
    own = {
        "HOLDFAST_AUTH": "jwt",
        "HOLDFAST_JWT_ISSUER": "https://id.example",
        "HOLDFAST_OAUTH_CLIENT_ID": "at-the-server",
        "HOLDFAST_PUBLIC_URL": "https://holdfast.example",
    }
    for name, value in (SPACE_ENVIRONMENT | own).items():
        minimal_environment.setenv(name, value)

    settings = Settings.from_env()

    assert str(settings.public_url) == "https://holdfast.example/"
    assert (settings.oauth_client_id, settings.oauth_client_secret) == ("at-the-server", None)
    assert settings.hf_oauth_client_id == "an-id"
    assert settings.hf_oauth_client_secret is not None
    assert settings.hf_oauth_scopes == ("openid", "profile", "jobs")


def test_variables_of_that_name_mean_nothing_elsewhere(
    minimal_environment: pytest.MonkeyPatch,
) -> None:
    """Many programs read `OAUTH_CLIENT_ID`, for another server and another application."""
    for name, value in SPACE_ENVIRONMENT.items():
        if name != "SPACE_HOST":
            minimal_environment.setenv(name, value)

    settings = Settings.from_env()

    assert (settings.oauth_client_id, settings.hf_oauth_client_id) == (None, None)


def test_a_page_lists_each_setting() -> None:
    """It is where a setting is looked up."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    table = text.partition("| setting (")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]

    assert {name.lower() for cell in cells for name in re.findall(r"[A-Z_]{3,}", cell)} == (
        SETTINGS_FOR_OPERATORS
    )
