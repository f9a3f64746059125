"""How a program signs its user in at the local Hub, and what it holds then."""

# The client library leaves these partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from huggingface_hub import HfApi

from service.local.hub_emulator.users import find_user
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.oauth.consent_browser import REDIRECT_URI, SignInClient, sign_in, submit_consent

ACME_ID = "a" * 24


async def test_the_metadata_names_the_hubs_own_origin_and_only_what_there_is(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """MCP clients compare the issuer letter by letter, and take every promise at its word."""
    metadata = (await anonymous_http.get("/.well-known/oauth-authorization-server")).json()
    openid = (await anonymous_http.get("/.well-known/openid-configuration")).json()

    assert metadata == openid
    assert metadata["issuer"] == hub_emulator.url
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["token_endpoint_auth_methods_supported"] == [
        "none",
        "client_secret_basic",
        "client_secret_post",
    ]
    endpoints = {
        name: url for name, url in metadata.items() if name.endswith(("_endpoint", "_uri"))
    }
    assert endpoints == {
        "authorization_endpoint": f"{hub_emulator.url}/oauth/authorize",
        "token_endpoint": f"{hub_emulator.url}/oauth/token",
        "userinfo_endpoint": f"{hub_emulator.url}/oauth/userinfo",
        "registration_endpoint": f"{hub_emulator.url}/oauth/register",
        "jwks_uri": f"{hub_emulator.url}/oauth/jwks",
    }
    assert "scopes_supported" not in metadata
    assert "client_id_metadata_document_supported" not in metadata


async def test_who_signed_in_is_the_same_subject_as_with_any_token(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Rows are keyed by the id; the real client must read it from a token that was issued."""
    tokens = await sign_in(hub_emulator.url)

    identity = HfApi(endpoint=hub_emulator.url, token=tokens.access_token).whoami()

    alice = find_user(hub_emulator.users, "alice")
    assert (identity["id"], identity["name"]) == (alice.id, "alice")
    assert identity["auth"]["type"] == "oauth"
    left = datetime.fromisoformat(identity["auth"]["expiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=28_700) < left <= timedelta(seconds=28_800)
    assert tokens.expires_in == 28_800
    assert tokens.token_type == "bearer"
    assert tokens.scope == "openid profile jobs inference-api"
    assert tokens.refresh_token.startswith("hf_oauth__refresh_")


async def test_any_local_user_can_be_the_one_who_signs_in(hub_emulator: HubEmulatorProcess) -> None:
    """A test of two tenants needs two people."""
    tokens = await sign_in(hub_emulator.url, user="bob")

    identity = HfApi(endpoint=hub_emulator.url, token=tokens.access_token).whoami()

    assert identity["id"] == find_user(hub_emulator.users, "bob").id


async def test_both_tokens_are_signed_with_the_published_keys(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """Other servers read the scopes from the access token, and who it is from the id token."""
    app = await SignInClient.register(anonymous_http)
    tokens = await app.obtain_tokens(scope="openid jobs", nonce="n-1")
    keys = jwt.PyJWKSet.from_dict((await anonymous_http.get("/oauth/jwks")).json())

    access = _verify_claims(keys, tokens.access_token.removeprefix("hf_oauth_"))
    assert tokens.id_token is not None
    who = _verify_claims(keys, tokens.id_token, audience=app.client_id)

    assert (access["scope"], access["iss"]) == (["openid", "jobs"], hub_emulator.url)
    assert access["exp"] - access["iat"] == 28_800
    assert (who["nonce"], who["iss"]) == ("n-1", hub_emulator.url)
    assert who["sub"] == access["sub"] == find_user(hub_emulator.users, "alice").id
    assert who["exp"] - who["iat"] == 3_600
    assert jwt.get_unverified_header(tokens.id_token)["alg"] == "RS256"


async def test_no_id_token_comes_without_the_scope_openid(hub_emulator: HubEmulatorProcess) -> None:
    """It is OpenID Connect's, and was not asked for."""
    assert (await sign_in(hub_emulator.url, "jobs")).id_token is None


async def test_the_page_names_client_user_and_scopes_and_runs_nothing(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """A name is chosen by whoever registers, so it may be an attack on the page itself."""
    app = await SignInClient.register(anonymous_http, client_name="<script>alert(1)</script>")

    page = await app.authorize(login_hint="alice", scope="openid jobs", orgIds=ACME_ID)

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script" not in page.text
    for shown in ("alice", "acme", "openid", "jobs", "127.0.0.1:8123"):
        assert shown in page.text
    assert "inference-api" not in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


async def test_a_user_who_denies_gives_nothing(anonymous_http: httpx2.AsyncClient) -> None:
    """The client is told, so that it need not wait."""
    app = await SignInClient.register(anonymous_http)

    back = await submit_consent(anonymous_http, await app.authorize(), decision="deny")

    issuer = str(anonymous_http.base_url).rstrip("/")
    assert dict(back.params) == {
        "error": "access_denied",
        "state": "the-state",
        "iss": issuer,
    }
    assert (await app.authorize()).status_code == 200


async def test_the_same_consent_is_asked_for_once(anonymous_http: httpx2.AsyncClient) -> None:
    """As on the Hub; more scopes, another user and a client that insists are asked about."""
    app = await SignInClient.register(anonymous_http)
    await app.obtain_code(scope="openid jobs")

    again = await app.authorize(scope="jobs openid")
    more = await app.authorize(scope="openid jobs inference-api")
    other_user = await app.authorize(scope="openid jobs", login_hint="bob")
    other_org = await app.authorize(scope="openid jobs", orgIds=ACME_ID)
    insisting = await app.authorize(scope="openid jobs", prompt="consent")

    assert again.status_code == 303
    assert (await app.redeem_code(httpx2.URL(again.headers["location"]).params["code"])).is_success
    statuses = {page.status_code for page in (more, other_user, other_org, insisting)}
    assert statuses == {200}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_with_a_secret_shows_it_in_either_way(
    anonymous_http: httpx2.AsyncClient, method: str
) -> None:
    """Servers sign users in too, and without their secret nobody else does it for them."""
    app = await SignInClient.register(anonymous_http, token_endpoint_auth_method=method)
    secret = app.registration["client_secret"]
    headers: dict[str, str] = {}
    shown: dict[str, str | None] = {"client_secret": secret}
    if method == "client_secret_basic":
        shown = {"client_id": None}
        pair = base64.b64encode(f"{app.client_id}:{secret}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    # The secret is enough to prove who asks.
    code = await app.obtain_code(code_challenge=None, code_challenge_method=None)

    silent = await app.redeem_code(code, code_verifier=None)
    wrong = await app.redeem_code(code, code_verifier=None, client_secret="no")
    anonymous_http.headers.update(headers)
    right = await app.redeem_code(code, code_verifier=None, **shown)

    assert [answer.status_code for answer in (silent, wrong, right)] == [401, 401, 200]
    assert silent.json()["error"] == wrong.json()["error"] == "invalid_client"
    assert silent.headers["www-authenticate"].startswith("Basic")
    assert right.headers["cache-control"] == "no-store"


async def test_a_native_program_may_listen_on_the_port_it_gets(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """It registers once and finds another port free each time it is started."""
    app = await SignInClient.register(anonymous_http, redirect_uris=["http://localhost/callback"])
    today = "http://localhost:49152/callback"

    code = await app.obtain_code(redirect_uri=today)

    assert (await app.redeem_code(code, redirect_uri=today)).is_success


async def test_a_redirect_uri_keeps_its_own_query(anonymous_http: httpx2.AsyncClient) -> None:
    """A client may tell its servers apart by it."""
    app = await SignInClient.register(anonymous_http, redirect_uris=[f"{REDIRECT_URI}?server=1"])

    back = await submit_consent(anonymous_http, await app.authorize())

    assert back.params["server"] == "1"
    assert back.params["code"]


async def test_a_refreshed_session_goes_on_with_new_tokens(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """Work outlives eight hours; the scopes may become fewer, and never more."""
    app = await SignInClient.register(anonymous_http)
    first = await app.obtain_tokens(scope="openid jobs")

    more = await app.refresh_tokens(first.refresh_token, scope="openid jobs inference-api")
    second = (await app.refresh_tokens(first.refresh_token, scope="jobs")).json()
    third = (await app.refresh_tokens(second["refresh_token"])).json()

    assert (more.status_code, more.json()["error"]) == (400, "invalid_scope")
    assert (second["scope"], third["scope"]) == ("jobs", "openid jobs")
    assert len({first.access_token, second["access_token"], third["access_token"]}) == 3
    assert len({first.refresh_token, second["refresh_token"], third["refresh_token"]}) == 3


async def test_userinfo_tells_an_oauth_token_as_much_as_its_scopes_allow(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """It is OpenID Connect's endpoint: other tokens are not known there."""
    much = await sign_in(hub_emulator.url, "openid profile email read-billing", org_ids=[ACME_ID])
    little = await sign_in(hub_emulator.url, "openid")

    with hub_emulator.open_client_as(much.access_token) as client:
        userinfo = client.get("/oauth/userinfo").json()
        billed = client.get("/api/whoami-v2").json()
        assert client.post("/oauth/userinfo").json() == userinfo
    with hub_emulator.open_client_as(little.access_token) as client:
        assert client.get("/oauth/userinfo").json() == {"sub": userinfo["sub"], "orgs": []}
        unbilled = client.get("/api/whoami-v2").json()
    with hub_emulator.open_client() as client:
        assert client.get("/oauth/userinfo").status_code == 401

    assert userinfo["sub"] == find_user(hub_emulator.users, "alice").id
    assert (userinfo["preferred_username"], userinfo["email_verified"]) == ("alice", True)
    assert [org["preferred_username"] for org in userinfo["orgs"]] == ["acme"]
    assert userinfo["canPay"] is billed["canPay"] is True
    assert unbilled.keys() & {"canPay", "email"} == set()


def _verify_claims(keys: jwt.PyJWKSet, token: str, audience: str | None = None) -> dict[str, Any]:
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=[key.algorithm_name], audience=audience)
