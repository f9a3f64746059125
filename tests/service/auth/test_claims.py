"""What a token has to say, and for whom, however well it is signed."""

from typing import Any

import pytest
from joserfc.jwk import RSAKey

from service.auth.jwt_verifier import JwtVerifier
from tests.support.oauth.authorization_server import (
    ADA_SUB,
    AUDIENCE,
    AuthorizationServer,
    assert_refused,
    sign_token,
)


@pytest.mark.parametrize(
    "aud",
    [
        None,
        "",
        [],
        "account",
        ["account", "other"],
        f"{AUDIENCE}/",
        AUDIENCE.upper(),
        AUDIENCE[:-1],
        f"{AUDIENCE}?x",
        f"x {AUDIENCE}",
    ],
)
async def test_a_token_made_for_another_service_is_refused(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, aud: object
) -> None:
    """Else any service the person uses could act for them here. Letter by letter, no slash less."""
    refusal = await assert_refused(trusted_authority, authorization_server.issue_token(aud=aud))

    assert refusal.problem == "invalid_audience"
    assert f"exactly {AUDIENCE}" in str(refusal)
    assert ("trailing slash" in str(refusal)) == (aud == f"{AUDIENCE}/")


async def test_a_token_may_be_made_for_several_services(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """Ours has to be one of them."""
    assert await trusted_authority.verify(
        authorization_server.issue_token(aud=["account", AUDIENCE])
    )


@pytest.mark.parametrize("change", ["{}/", "{}/realms/other", "https://evil.example", ""])
async def test_a_token_of_another_issuer_is_refused_before_keys_are_looked_for(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, change: str
) -> None:
    """One host serves many realms, with the same keys at times; a person is told which is meant."""
    refusal = await assert_refused(
        trusted_authority,
        authorization_server.issue_token(iss=change.format(authorization_server.issuer)),
    )

    assert refusal.problem == "invalid_issuer"
    assert f"exactly {authorization_server.issuer}" in str(refusal)
    assert ("trailing slash" in str(refusal)) == (change == "{}/")
    assert authorization_server.requested_paths == []


@pytest.mark.parametrize("name", ["exp", "sub", "iss"])
async def test_a_token_has_to_say_who_from_whom_and_how_long(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, name: str
) -> None:
    """One without an end would be good for ever, one without a subject for anybody."""
    refusal = await assert_refused(
        trusted_authority, authorization_server.issue_token(**{name: None})
    )

    assert refusal.problem == "invalid_token"
    assert f"cannot be used: {name} is missing" in str(refusal)


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("exp", "never"),
        ("exp", "9999999999"),
        ("exp", True),
        ("exp", -1),
        ("exp", 1e300),
        ("nbf", "now"),
        ("iat", [0]),
        ("sub", ""),
        ("sub", 1815),
        ("sub", "a" * 256),
        ("sub", "ada\x00"),
        ("sub", "ada\n"),
        ("sub", ["ada"]),
        ("aud", {"a": 1}),
        ("aud", [1]),
        ("iss", ["x"]),
        ("scope", ["jobs"]),
        ("scp", [1]),
    ],
)
async def test_a_claim_of_the_wrong_form_is_not_guessed_at(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    name: str,
    odd: object,
) -> None:
    """A subject is a key in our tables, and a time has to be one."""
    token = sign_token(
        {"alg": "RS256", "kid": "rsa"}, authorization_server.make_payload(**{name: odd}), rsa_key
    )

    assert f"cannot be used: {name} is missing or malformed" in str(
        await assert_refused(trusted_authority, token)
    )


async def test_an_infinite_time_is_not_a_time(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, rsa_key: RSAKey
) -> None:
    """Python writes and reads it, though JSON has no such number."""
    token = sign_token(
        {"alg": "RS256"}, authorization_server.make_payload(exp=float("inf")), rsa_key
    )

    assert (await assert_refused(trusted_authority, token)).problem == "invalid_token"


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "jobs  openid"}, {"jobs", "openid"}),
        ({"scope": None, "scp": ["jobs", "openid"]}, {"jobs", "openid"}),
        ({"scope": None, "scp": "jobs openid"}, {"jobs", "openid"}),
        ({"scope": "jobs", "scp": ["admin"]}, {"jobs"}),
        ({"scope": "", "scp": ["admin"]}, set[str]()),
        ({"scope": None}, set[str]()),
    ],
)
async def test_scopes_are_read_where_servers_write_them(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    claims: Any,
    scopes: set[str],
) -> None:
    """`scope` is the standard (RFC 9068), Okta and Entra say `scp`; the standard wins."""
    assert (
        await trusted_authority.verify(authorization_server.issue_token(**claims))
    ).scopes == scopes


async def test_what_is_only_shown_never_refuses_anybody(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """An e-mail address is for whoami; the subject is who."""
    identity = await trusted_authority.verify(
        authorization_server.issue_token(email="ada@example.org", name="Ada Lovelace")
    )
    odd = await trusted_authority.verify(
        authorization_server.issue_token(email=7, name="", client_id=None, azp="cursor")
    )

    assert (identity.email, identity.name, identity.client_id) == (
        "ada@example.org",
        "Ada Lovelace",
        "claude",
    )
    assert (odd.subject, odd.email, odd.name, odd.client_id) == (ADA_SUB, None, None, "cursor")
