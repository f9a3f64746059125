"""A service behind an authorization server of its operator's: two tokens, and what both allow."""

from collections.abc import Generator
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from schema.db.database import Database
from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.fake_hub import FakeHub
from tests.support.mcp.client import refusal_code
from tests.support.oauth.authorization_server import ADA_SUB, AUDIENCE, AuthorizationServer
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_ID

LAUNCH_CALL: dict[str, Any] = {
    "name": "launch_job",
    "arguments": {"image": "python:3.12", "command": ["true"]},
}


@pytest.fixture
def service_url(
    start_service: StartService, authorization_server: AuthorizationServer
) -> Generator[str]:
    """A service that trusts the authorization server."""
    with start_service(
        auth="jwt", jwt_issuer=authorization_server.issuer, jwt_audience=AUDIENCE
    ) as url:
        yield url


async def post_with_tokens(
    url: str, method: str, params: dict[str, Any] | None = None, **tokens: str | None
) -> httpx2.Response:
    """Send one message with these tokens."""
    names = {"signed": "authorization", "hub": "x-hf-authorization"}
    headers = {names[name]: f"Bearer {token}" for name, token in tokens.items() if token}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    accept = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
    }
    async with AsyncHttpClient(headers=headers | accept, timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{url}/mcp", json=message)


async def test_who_is_signed_in_acts_at_the_hub_with_their_own_token(
    service_url: str, authorization_server: AuthorizationServer, database: Database
) -> None:
    """Rows belong to the account at the Hub, whoever vouches for the person here."""
    token = authorization_server.issue_token(scope="jobs inference-api").reveal()

    response = await post_with_tokens(
        service_url, "tools/call", LAUNCH_CALL, signed=token, hub="hf_ada"
    )

    assert response.json()["result"]["structuredContent"]["state"] == "queued"
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT subject_id FROM job") == ADA_ID


async def test_a_token_of_the_hub_alone_does_not_sign_anybody_in(
    service_url: str, fake_hub: FakeHub
) -> None:
    """It was not made for this service; that is what the authorization server is for."""
    by_itself = await post_with_tokens(service_url, "tools/list", hub="hf_ada")
    in_its_place = await post_with_tokens(service_url, "tools/list", signed="hf_ada", hub="hf_ada")

    assert (by_itself.status_code, in_its_place.status_code) == (401, 401)
    assert fake_hub.whoami_tokens == []


async def test_without_authority_at_the_hub_one_is_told_how_to_bring_it(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """Signing in again would not help, so it is not asked for."""
    response = await post_with_tokens(
        service_url, "tools/list", signed=authorization_server.issue_token(scope="jobs").reveal()
    )

    assert response.status_code == 403
    assert "X-HF-Authorization" in response.json()["error"]["message"]
    assert "www-authenticate" not in response.headers


async def test_a_dead_token_of_the_hub_is_not_covered_up_by_a_good_sign_in(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """Both have to be good; and a new sign-in here would not mend that one."""
    token = authorization_server.issue_token(scope="jobs").reveal()

    response = await post_with_tokens(service_url, "tools/list", signed=token, hub="hf_stale")

    assert response.status_code == 403
    assert "X-HF-Authorization" in response.json()["error"]["message"]
    assert "www-authenticate" not in response.headers


async def test_the_python_sdk_shows_why_a_call_is_refused(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """It shows the message of a JSON-RPC error, and of any other body nothing."""
    token = authorization_server.issue_token(scope="jobs").reveal()
    headers = {"authorization": f"Bearer {token}", "x-hf-authorization": "Bearer hf_stale"}

    async with AsyncHttpClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http:
        transport = streamable_http_client(f"{service_url}/mcp", http_client=http)
        refused = pytest.RaisesExc(MCPError, match="X-HF-Authorization")
        with pytest.RaisesGroup(refused, flatten_subgroups=True):
            async with Client(transport) as client:
                await client.list_tools()


async def test_a_scope_that_the_sign_in_lacks_is_asked_for(
    service_url: str, authorization_server: AuthorizationServer, database: Database
) -> None:
    """The person's token at the Hub may do it; the operator's rules say whether here."""
    token = authorization_server.issue_token(scope="inference-api").reveal()

    response = await post_with_tokens(
        service_url, "tools/call", LAUNCH_CALL, signed=token, hub="hf_ada"
    )

    assert response.status_code == 403
    assert refusal_code(response) == "insufficient_scope"
    assert 'scope="jobs"' in response.headers["www-authenticate"]
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0


async def test_whoever_is_signed_in_may_do_what_both_tokens_allow(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """Also for a call that the middleware does not judge."""
    token = authorization_server.issue_token(scope="inference-api").reveal()

    response = await post_with_tokens(
        service_url, "tools/call", {"name": "whoami", "arguments": {}}, signed=token, hub="hf_ada"
    )

    account = response.json()["result"]["structuredContent"]
    assert "inference-api" in account["scopes"]
    assert account["missing_scopes"] == ["jobs"]


async def test_a_scope_that_the_token_at_the_hub_lacks_cannot_be_signed_in_for(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """A second consent would change nothing, so the model is told what would."""
    token = authorization_server.issue_token(scope="jobs inference-api").reveal()

    response = await post_with_tokens(
        service_url, "tools/call", LAUNCH_CALL, signed=token, hub="hf_reader"
    )

    assert response.status_code == 200
    assert "read-only" in response.json()["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"exp": 1}, "token_expired"),
        ({"aud": "https://elsewhere.example"}, "invalid_audience"),
        ({"nbf": 4102444800}, "not_yet_valid"),
    ],
)
async def test_what_is_wrong_with_a_token_has_a_name(
    service_url: str,
    authorization_server: AuthorizationServer,
    fake_hub: FakeHub,
    claims: dict[str, Any],
    error: str,
) -> None:
    """An operator who sets this up finds the cause without reading our code."""
    token = authorization_server.issue_token(scope="jobs", **claims).reveal()

    response = await post_with_tokens(service_url, "tools/list", signed=token, hub="hf_ada")

    assert (response.status_code, refusal_code(response)) == (401, error)
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert fake_hub.whoami_tokens == []


@pytest.mark.parametrize(
    ("audience", "resource"),
    [
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://127.0.0.1:8765/", "http://127.0.0.1:8765/"),
        ("http://127.0.0.1:87", "http://127.0.0.1:8765/mcp"),
        ("http:", "http://127.0.0.1:8765/mcp"),
        ("8d1c4f62-aad6-4f10-9c0e-1b3f1e7e5f5c", "http://127.0.0.1:8765/mcp"),
    ],
)
async def test_the_audience_that_is_demanded_is_published(
    start_service: StartService,
    authorization_server: AuthorizationServer,
    audience: str,
    resource: str,
) -> None:
    """A client asks for a token for what is published; the endpoint, where it accepts no other."""
    with start_service(
        auth="jwt", jwt_issuer=authorization_server.issuer, jwt_audience=audience
    ) as url:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            document = (await http.get(f"{url}/.well-known/oauth-protected-resource/mcp")).json()

    assert document["resource"] == resource


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_token_for_any_name_of_this_machine_is_for_us(
    start_service: StartService, authorization_server: AuthorizationServer, name: str
) -> None:
    """It is asked for under the name that the person wrote."""
    issue = authorization_server.issue_token
    here, elsewhere = (issue(aud=f"http://{name}:{port}/mcp").reveal() for port in (8765, 8766))
    with start_service(auth="jwt", jwt_issuer=authorization_server.issuer) as url:
        statuses = [
            (await post_with_tokens(url, "tools/list", signed=token, hub="hf_ada")).status_code
            for token in (here, elsewhere)
        ]

    assert statuses == [200, 401]


@pytest.fixture
def url_with_scopes_of_its_own(
    start_service: StartService, authorization_server: AuthorizationServer
) -> Generator[str]:
    """A service behind a server that calls scopes `mcp:read` and `mcp:write`, as Authgent does."""
    with start_service(
        auth="jwt",
        jwt_issuer=authorization_server.issuer,
        jwt_audience=AUDIENCE,
        jwt_scopes="jobs=mcp:write, inference-api=mcp:write",
        required_scopes="mcp:read",
    ) as url:
        yield url


async def test_the_scopes_of_a_server_decide_under_its_own_names(
    url_with_scopes_of_its_own: str, authorization_server: AuthorizationServer, database: Database
) -> None:
    """Its operator has scopes already, and need not make ours there."""
    url = url_with_scopes_of_its_own
    nothing, reader, writer = (
        authorization_server.issue_token(scope=scope).reveal()
        for scope in ("openid jobs inference-api", "mcp:read", "mcp:read mcp:write")
    )
    refused = await post_with_tokens(url, "tools/list", signed=nothing, hub="hf_ada")
    listed = await post_with_tokens(url, "tools/list", signed=reader, hub="hf_ada")
    denied = await post_with_tokens(url, "tools/call", LAUNCH_CALL, signed=reader, hub="hf_ada")
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
    launched = await post_with_tokens(url, "tools/call", LAUNCH_CALL, signed=writer, hub="hf_ada")

    assert [refused.status_code, listed.status_code, denied.status_code] == [403, 200, 403]
    assert refusal_code(refused) == refusal_code(denied) == "insufficient_scope"
    assert 'scope="mcp:read"' in refused.headers["www-authenticate"]
    assert 'scope="mcp:write"' in denied.headers["www-authenticate"]
    sentence = f"Your sign-in at {authorization_server.issuer} lacks the scope mcp:write"
    assert denied.json()["error"]["message"].startswith(sentence)
    assert launched.json()["result"]["structuredContent"]["state"] == "queued"


async def test_a_server_is_asked_for_the_scopes_by_its_names(
    url_with_scopes_of_its_own: str,
) -> None:
    """A client asks for what is published, and no server grants a scope that it does not know."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        path = "/.well-known/oauth-protected-resource/mcp"
        document = (await http.get(f"{url_with_scopes_of_its_own}{path}")).json()

    assert document["scopes_supported"] == ["mcp:read", "mcp:write"]


async def test_whoami_names_the_sign_in(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """With two accounts at work, a person sees which of them this is."""
    token = authorization_server.issue_token(
        scope="jobs", name="Ada\nLovelace", email="ada@id.example"
    )

    response = await post_with_tokens(
        service_url,
        "tools/call",
        {"name": "whoami", "arguments": {}},
        signed=token.reveal(),
        hub="hf_ada",
    )

    result = response.json()["result"]
    assert result["structuredContent"]["sign_in"] == {
        "issuer": authorization_server.issuer,
        "subject": ADA_SUB,
        "audience": AUDIENCE,
        "name": "AdaLovelace",
        "email": "ada@id.example",
        "is_connected": False,
    }
    assert f"Signed in at {authorization_server.issuer} as AdaLovelace" in response.text


async def test_the_metadata_names_the_authorization_server(
    service_url: str, authorization_server: AuthorizationServer
) -> None:
    """A client that comes without a token finds its way from there."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        metadata = (
            await http.get(f"{service_url}/.well-known/oauth-protected-resource/mcp")
        ).json()

    assert metadata["authorization_servers"] == [authorization_server.issuer]
    assert metadata["scopes_supported"] == ["jobs", "inference-api"]


async def test_the_official_client_signs_in_at_the_authorization_server(
    start_service: StartService, authorization_server: AuthorizationServer
) -> None:
    """It finds the server from our 401, registers, proves its key, and asks for our audience."""
    port = find_free_port()
    ours = f"http://127.0.0.1:{port}"
    memory = MemoryTokenStorage()
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        browser = ConsentingBrowser(http)
        provider = make_oauth_provider(f"{ours}/mcp", browser, memory)
        headers = {"x-hf-authorization": "Bearer hf_ada"}
        with start_service(
            auth="jwt", jwt_issuer=authorization_server.issuer, public_url=ours, at=port
        ):
            async with (
                AsyncHttpClient(
                    auth=provider, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
                ) as signed,
                Client(streamable_http_client(f"{ours}/mcp", http_client=signed)) as client,
            ):
                answer = await client.call_tool("launch_job", LAUNCH_CALL["arguments"])

    assert answer.structured_content is not None
    assert answer.structured_content["state"] == "queued"
    assert browser.visited_urls[0].params["scope"] == "jobs inference-api"
    assert browser.visited_urls[0].params["resource"] == f"{ours}/mcp"
