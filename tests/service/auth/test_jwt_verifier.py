"""Whom does a token speak for? Each way to be somebody else is tried here."""

import hmac
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from schema.accounts.vault import Secret
from service.auth.jwt_verifier import ExternalIdentity, JwtVerifier, open_jwt_verifier
from tests.support.http_clients import AsyncHttpClient
from tests.support.oauth.authorization_server import (
    ADA_SUB,
    AUDIENCE,
    LEEWAY,
    AuthorizationServer,
    assert_refused,
    forge_token,
    sign_token,
    signing_input,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS

PUBLIC_KEY_FORMATS = ["PEM", "DER"]


async def test_a_token_the_server_issued_says_who_is_calling(
    authorization_server: AuthorizationServer,
) -> None:
    """All that is known of a caller is what was signed; the rest of this file is about that."""
    form = {"grant_type": "client_credentials", "client_id": "claude", "resource": AUDIENCE}
    async with (
        AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http,
        open_jwt_verifier(
            issuer=authorization_server.issuer, audiences=(AUDIENCE,), jwks_url=None, leeway=LEEWAY
        ) as authority,
    ):
        answer = (await http.post(f"{authorization_server.url}/token", data=form)).json()
        identity = await authority.verify(Secret(answer["access_token"]))

    assert identity == ExternalIdentity(
        issuer=authorization_server.issuer,
        subject=ADA_SUB,
        audience=AUDIENCE,
        scopes=frozenset({"jobs", "openid"}),
        expires_at=identity.expires_at,
        valid_until=identity.expires_at + LEEWAY,
        client_id="claude",
        email=None,
        name=None,
    )
    assert timedelta(0) < identity.expires_at - datetime.now(UTC) <= timedelta(seconds=300)


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (RSAKey.generate_key(2048, {"kid": "k"}), "RS256"),
        (RSAKey.generate_key(2048, {"kid": "k"}), "PS512"),
        (ECKey.generate_key("P-256", {"kid": "k"}), "ES256"),
        (ECKey.generate_key("P-384", {"kid": "k"}), "ES384"),
        (ECKey.generate_key("P-521", {"kid": "k"}), "ES512"),
    ],
)
async def test_each_usual_algorithm_is_understood(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    key: RSAKey | ECKey,
    alg: str,
) -> None:
    """Servers differ in what they sign with; a key without `alg` serves its whole family."""
    authorization_server.keys = [key]

    assert (
        await trusted_authority.verify(authorization_server.issue_token(alg=alg))
    ).subject == ADA_SUB


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
async def test_edwards_curves_are_understood_under_both_names(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, alg: str
) -> None:
    """EdDSA is what most servers say, though RFC 9864 has since renamed it."""
    key = OKPKey.generate_key("Ed25519", {"kid": "k"})
    authorization_server.keys = [key]

    token = sign_token({"alg": alg, "kid": "k"}, authorization_server.make_payload(), key)

    assert (await trusted_authority.verify(token)).subject == ADA_SUB


@pytest.mark.parametrize(
    "confirmation", [{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, {"x5t#S256": "b"}, {}]
)
async def test_a_token_that_is_bound_to_a_key_is_refused(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    confirmation: dict[str, str],
) -> None:
    """Who steals it has no key, and here nobody would ask for a proof."""
    token = authorization_server.issue_token(cnf=confirmation)

    refusal = await assert_refused(trusted_authority, token)

    assert "(cnf)" in str(refusal)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
async def test_a_token_that_says_it_needs_no_signature_is_refused(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, alg: str
) -> None:
    """The oldest trick there is."""
    refusal = await assert_refused(
        trusted_authority,
        forge_token({"alg": alg, "kid": "ec"}, authorization_server.make_payload()),
    )

    assert "its alg must be one of" in str(refusal)


@pytest.mark.parametrize("form", PUBLIC_KEY_FORMATS)
@pytest.mark.parametrize("kid", ["rsa", "ec"])
async def test_a_public_key_is_not_a_shared_secret(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, kid: str, form: str
) -> None:
    """Anyone has the public key, so anyone could sign with it if HMAC were believed."""
    key = next(key for key in authorization_server.keys if key.kid == kid)
    public = key.as_pem(private=False) if form == "PEM" else key.as_der(private=False)
    header = {"alg": "HS256", "kid": kid}
    bound = signing_input(header, authorization_server.make_payload()).encode()

    refusal = await assert_refused(
        trusted_authority,
        forge_token(
            header, authorization_server.make_payload(), hmac.digest(public, bound, sha256)
        ),
    )

    assert "its alg must be one of" in str(refusal)


@pytest.mark.parametrize(
    "kid",
    [
        ["rsa"],
        {"rsa": 1},
        7,
        True,
        "",
        "RSA",
        "rsa ",
        "../../../../dev/null",
        "rsa' OR '1'='1",
        "rsa\x00",
        "http://169.254.169.254/latest/meta-data",
        "k" * 5000,
    ],
)
async def test_a_kid_is_a_name_to_compare_and_nothing_else(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    kid: object,
) -> None:
    """It is never a path, a query or an address, and the right signature does not help."""
    token = sign_token({"alg": "RS256", "kid": kid}, authorization_server.make_payload(), rsa_key)

    assert (await assert_refused(trusted_authority, token)).problem == "invalid_token"
    assert authorization_server.requested_paths in (["/jwks"], [])


async def test_a_huge_kid_is_not_even_looked_for(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, rsa_key: RSAKey
) -> None:
    """Nobody calls a key by a name of pages."""
    await assert_refused(
        trusted_authority,
        sign_token(
            {"alg": "RS256", "kid": "k" * 257}, authorization_server.make_payload(), rsa_key
        ),
    )

    assert authorization_server.requested_paths == []


async def test_a_token_without_a_kid_is_verified_by_any_key_that_fits(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, rsa_key: RSAKey
) -> None:
    """The name is optional (RFC 7515, section 4.1.4), the signature is not."""
    stranger = RSAKey.generate_key(2048)

    assert await trusted_authority.verify(
        sign_token({"alg": "RS256"}, authorization_server.make_payload(), rsa_key)
    )
    await assert_refused(
        trusted_authority,
        sign_token({"alg": "RS256"}, authorization_server.make_payload(), stranger),
    )


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c", "crit"])
async def test_a_token_cannot_say_how_it_is_to_be_verified(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    name: str,
) -> None:
    """Not even if the server signed it: what is not followed must not look as if it were."""
    header_parameters = {
        "jku": f"{authorization_server.url}/evil",
        "jwk": rsa_key.as_dict(private=False),
        "x5u": f"{authorization_server.url}/evil",
        "x5c": ["MIIB"],
        "crit": ["b64"],
    }
    header = {"alg": "RS256", "kid": "rsa", "b64": True, name: header_parameters[name]}

    refusal = await assert_refused(
        trusted_authority, sign_token(header, authorization_server.make_payload(), rsa_key)
    )

    assert f"header has {name}" in str(refusal)
    assert authorization_server.requested_paths == []


async def test_a_token_does_not_bring_its_own_key(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """Its signature is right, by a key that is nobody's."""
    mine = RSAKey.generate_key(2048)
    header = {"alg": "RS256", "kid": "rsa", "jwk": mine.as_dict(private=False)}

    await assert_refused(
        trusted_authority, sign_token(header, authorization_server.make_payload(), mine)
    )


async def test_the_name_of_a_key_is_not_the_key(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A kid is public; whoever signs under it has to have the key."""
    impostor = RSAKey.generate_key(2048, {"kid": "rsa"})

    refusal = await assert_refused(
        trusted_authority, authorization_server.issue_token(key=impostor)
    )

    assert "signature of this token is wrong" in str(refusal)


async def test_what_was_signed_cannot_be_changed(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """Neither who, nor the signature itself, nor nothing in its place."""
    header, payload, signature = authorization_server.issue_token().reveal().split(".")
    _, bobs, _ = authorization_server.issue_token(sub="bob").reveal().split(".")

    await assert_refused(trusted_authority, Secret(f"{header}.{bobs}.{signature}"))
    await assert_refused(trusted_authority, Secret(f"{header}.{payload}.{signature[:-8]}"))
    await assert_refused(trusted_authority, Secret(f"{header}.{payload}."))


@pytest.mark.parametrize(("kid", "alg"), [("ec", "RS256"), ("rsa", "ES256"), ("ec", "ES384")])
async def test_a_key_verifies_its_own_kind_of_signature_only(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    kid: str,
    alg: str,
) -> None:
    """The token names the algorithm, the key decides whether that can be."""
    token = sign_token({"alg": alg, "kid": kid}, authorization_server.make_payload(), rsa_key)

    assert f"publishes no {alg} key" in str(await assert_refused(trusted_authority, token))


async def test_a_key_that_is_published_for_one_algorithm_serves_no_other(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A server that has settled on PS256 did not agree to the older padding."""
    key = RSAKey.generate_key(2048, {"kid": "ps", "alg": "PS256"})
    authorization_server.keys = [key]

    assert await trusted_authority.verify(authorization_server.issue_token(alg="PS256"))
    await assert_refused(
        trusted_authority,
        sign_token({"alg": "RS256", "kid": "ps"}, authorization_server.make_payload(), key),
    )


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", 7])
async def test_only_an_access_token_is_one(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    typ: object,
) -> None:
    """The server signs other things with the same keys (RFC 8725, section 3.11)."""
    header = {"alg": "RS256", "kid": "rsa", "typ": typ}

    await assert_refused(
        trusted_authority, sign_token(header, authorization_server.make_payload(), rsa_key)
    )


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "hf_ada",
        ".",
        "..",
        "...",
        "a.b.c",
        "bm90IGpzb24.bm90IGpzb24.bm90IGpzb24",
        "e30.e30.",
        "W10.W10.W10",
        "ünïcödé.e30.e30",
        signing_input({"alg": "RS256", "b64": False}, b"") + ".e30",
        signing_input({"alg": "RS256"}, b"[" * 3000) + ".e30",
        signing_input({"alg": "RS256"}, b"\xff\xfe") + ".e30",
        signing_input({"alg": ["RS256"]}, b"{}") + ".e30",
    ],
)
async def test_whatever_is_not_a_token_is_refused_without_asking_anyone(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, garbage: str
) -> None:
    """Scanners send anything; it is neither a crash nor a question."""
    assert (await assert_refused(trusted_authority, Secret(garbage))).problem == "invalid_token"
    assert authorization_server.requested_paths == []


async def test_a_header_nested_without_end_is_refused(trusted_authority: JwtVerifier) -> None:
    """It would use up the stack of whoever reads it."""
    nested = signing_input({}, b"[" * 3000).split(".")[1]

    await assert_refused(trusted_authority, Secret(f"{nested}.e30.e30"))


async def test_a_token_of_more_than_8_kib_is_refused(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A server in front of us would not let its header pass; decoding it costs us, not them."""
    refusal = await assert_refused(
        trusted_authority, authorization_server.issue_token(groups="g" * 8192)
    )

    assert "at most 8192" in str(refusal)


async def test_the_leeway_is_for_clocks_and_ends_there(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """Half a minute apart is usual; more is a matter for NTP, which the refusal says."""
    now, near, far = time.time(), LEEWAY.total_seconds() - 10, LEEWAY.total_seconds() + 10

    assert await trusted_authority.verify(authorization_server.issue_token(exp=now - near))
    assert await trusted_authority.verify(
        authorization_server.issue_token(nbf=now + near, iat=now + near)
    )
    refusals = [
        await assert_refused(trusted_authority, authorization_server.issue_token(exp=now - far)),
        await assert_refused(trusted_authority, authorization_server.issue_token(nbf=now + far)),
        await assert_refused(trusted_authority, authorization_server.issue_token(iat=now + far)),
    ]

    assert [refusal.problem for refusal in refusals] == [
        "token_expired",
        "not_yet_valid",
        "not_yet_valid",
    ]
    assert all("by NTP" in str(refusal) for refusal in refusals)
