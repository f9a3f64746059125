"""A person connects their account once, in a browser, and sends no second token any more."""

from collections.abc import Callable
from typing import NoReturn

import httpx2
import pytest
from starlette.requests import Request
from starlette.types import Scope

from schema.accounts import connections
from schema.accounts.connections import hash_sign_in
from schema.accounts.vault import Vault
from schema.common.errors import InDoubt, Invalid
from schema.db.database import Database
from schema.settings import Settings
from service.cli.doctor import check_connecting
from service.http.connect.flow import ConnectFlow
from service.http.connect.routes import ConnectPages
from service.local.hub_emulator.users import LocalTokenKind, find_user
from service.local.ports import find_free_port
from service.mcp.catalog.help import build_help_page
from tests.support.factories import StartService
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.oauth.authorization_server import ADA_SUB, AuthorizationServer
from tests.support.oauth.connecting import ConnectingBrowser, call_whoami
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@pytest.fixture
def token(authorization_server: AuthorizationServer, connecting_url: str) -> str:
    """What Ada's program got when she signed in."""
    return authorization_server.issue_token(
        aud=f"{connecting_url}/mcp", scope="jobs inference-api"
    ).reveal()


async def test_whoever_has_connected_needs_no_second_token(
    connecting_url: str, person: ConnectingBrowser, token: str
) -> None:
    """The refusal says where to go, and afterwards the same call is answered."""
    before = await call_whoami(connecting_url, token)
    page = await person.connect()
    after = await call_whoami(connecting_url, token)

    assert before.status_code == 403
    assert f"Open {connecting_url}/connect in a browser" in before.json()["error"]["message"]
    assert "Connected" in page.text
    account = after.json()["result"]["structuredContent"]
    assert account["name"] == "alice"
    assert account["sign_in"]["is_connected"] is True
    assert "is connected with that sign-in" in after.text


async def test_a_token_that_comes_with_the_call_wins(
    connecting_url: str,
    person: ConnectingBrowser,
    token: str,
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Whoever sends one means it."""
    await person.connect()
    bob = find_user(hub_emulator.users, "bob", LocalTokenKind.WRITE).token

    answer = await call_whoami(connecting_url, token, bob)

    account = answer.json()["result"]["structuredContent"]
    assert (account["name"], account["sign_in"]["is_connected"]) == ("bob", False)


async def test_a_header_without_a_token_does_not_fall_back_to_the_account(
    connecting_url: str, person: ConnectingBrowser, token: str
) -> None:
    """Whoever sends it means somebody; a variable that was not set must not act as another."""
    await person.connect()
    malformed = (
        [""],
        ["Bearer"],
        ["hf_bob"],
        ["Basic aGY6Ym9i"],
        ["Bearer hf_bob hf_bob"],
        ["Bearer hf_bob", ""],
        ["", "Bearer hf_bob"],
    )

    answers = [await call_whoami(connecting_url, token, hub_values=each) for each in malformed]

    assert [answer.status_code for answer in answers] == [403] * len(malformed)
    for answer in answers:
        message = answer.json()["error"]["message"]
        assert "The header has to be one 'Bearer hf_…'." in message


async def test_the_sign_in_still_limits_what_may_be_done(
    connecting_url: str, person: ConnectingBrowser, authorization_server: AuthorizationServer
) -> None:
    """The account may do more; the operator's rules say what here."""
    await person.connect()
    narrow = authorization_server.issue_token(
        aud=f"{connecting_url}/mcp", scope="inference-api"
    ).reveal()

    answer = await call_whoami(connecting_url, narrow)

    assert answer.json()["result"]["structuredContent"]["missing_scopes"] == ["jobs"]


async def test_the_page_names_both_accounts_before_anything_is_stored(
    person: ConnectingBrowser, authorization_server: AuthorizationServer, database: Database
) -> None:
    """A person who was led here by somebody else sees a name that is not theirs."""
    authorization_server.sign_in_endpoints.claims["name"] = "<img src=x> Ada"

    page = await person.reach_confirmation()

    assert f"&lt;img src=x&gt; Ada ({ADA_SUB})" in page.text
    assert "<img" not in page.text
    assert authorization_server.issuer in page.text
    assert "<dd>alice</dd>" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM connected_account") == 0
        assert await tx.fetchval("SELECT count(*) FROM credential") == 0


async def test_who_cancels_connects_nothing(person: ConnectingBrowser, database: Database) -> None:
    """Also with an account that was connected before: that one stays."""
    page = await person.press(await person.reach_confirmation(), "deny")

    assert "Nothing was stored" in page.text
    assert "connected-applications" in page.text, "the Hub has not revoked what it gave"
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM connected_account") == 0


async def test_a_disconnected_account_is_gone_at_once(
    connecting_url: str, person: ConnectingBrowser, token: str, database: Database
) -> None:
    """Also in other replicas: the row is read for each call."""
    await person.connect()
    assert (await call_whoami(connecting_url, token)).status_code == 200
    cancelled = await person.press(await person.get(await person.sign_in("disconnect")), "deny")
    still = await call_whoami(connecting_url, token)

    page = await person.press(await person.get(await person.sign_in("disconnect")))
    after = await call_whoami(connecting_url, token)
    nothing = await person.get(await person.sign_in("disconnect"))

    assert ("Nothing was changed" in cancelled.text, still.status_code) == (True, 200)
    assert "connected-applications" in page.text
    assert after.status_code == 403
    assert "and connect your Hugging Face account" in after.json()["error"]["message"]
    assert "No Hugging Face account is connected" in nothing.text
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM connected_account") == 0


async def test_a_page_of_an_earlier_connection_disconnects_nothing(
    connecting_url: str, person: ConnectingBrowser, token: str, database: Database
) -> None:
    """Its answer would else say that the connection is deleted."""
    await person.connect()
    page = await person.get(await person.sign_in("disconnect"))
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET connection_id = gen_random_uuid()")

    answer = await person.press(page)

    assert answer.status_code == 400
    assert "The connection has changed" in answer.text
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM connected_account") == 1
        assert await tx.fetchval("SELECT count(*) FROM audit_entry WHERE action ~ 'disconn'") == 0


class FlowInDoubt(ConnectFlow):
    """A flow that lost the answer to its commit."""

    def __init__(self) -> None:
        """Make one that needs no services."""

    def open_hub_step(self, sealed: str) -> NoReturn:
        """Fail as a transaction does when Postgres goes away during the commit."""
        raise InDoubt("The database", effect="whether this was done is not known")


async def test_a_commit_in_doubt_is_not_called_undone() -> None:
    """The person would believe that nothing is stored."""
    pages = ConnectPages(FlowInDoubt(), "https://holdfast.example")
    scope: Scope = {"type": "http", "method": "GET", "query_string": b"", "headers": []}

    page = await pages.return_from_hub(Request(scope))

    assert page.status_code == 503
    assert b"whether this was done is not known" in page.body
    assert b"begin again" in page.body
    assert b"Nothing" not in page.body


async def test_what_the_hub_takes_back_has_to_be_connected_again(
    connecting_url: str,
    person: ConnectingBrowser,
    token: str,
    database: Database,
    vault: Vault,
    hub_emulator: HubEmulatorProcess,
    authorization_server: AuthorizationServer,
) -> None:
    """The refusal names the page, and the tokens are deleted."""
    await person.connect()
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET updated_at = now() - interval '1 h'")
        sign_in_id = await tx.fetchval("SELECT sign_in_id FROM connected_account")
        stored = await connections.load_connection(tx, vault, sign_in_id)
    assert stored is not None
    assert stored.tokens is not None
    with hub_emulator.open_client() as hub:
        body = {"token": stored.tokens.refresh.reveal()}
        assert hub.post("/_emulator/oauth/revoke", json=body).is_success

    refused = await call_whoami(connecting_url, token)
    await person.connect()
    again = await call_whoami(connecting_url, token)

    assert refused.status_code == 403
    assert f"Open {connecting_url}/connect in a browser and connect it again" in refused.text
    assert again.status_code == 200
    assert sign_in_id == hash_sign_in(authorization_server.issuer, ADA_SUB)


async def test_without_an_application_at_the_hub_there_is_no_page(
    start_service: StartService, authorization_server: AuthorizationServer
) -> None:
    """Nothing can be connected, so no refusal names the page."""
    with start_service(
        auth="jwt", jwt_issuer=authorization_server.issuer, oauth_client_id="holdfast"
    ) as url:
        token = authorization_server.issue_token(aud="http://127.0.0.1:8765/mcp").reveal()
        refused = await call_whoami(url, token)

    assert "/connect" not in refused.json()["error"]["message"]


async def test_an_address_cannot_ask_without_end(
    start_service: StartService, authorization_server: AuthorizationServer
) -> None:
    """Each step makes us call two other servers."""
    with start_service(
        auth="jwt",
        jwt_issuer=authorization_server.issuer,
        oauth_client_id="holdfast",
        hf_oauth_client_id="app",
        calls_per_minute=2,
    ) as url:
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.91.7")
        async with httpx2.AsyncClient(transport=transport, timeout=HTTP_TIMEOUT_SECONDS) as http:
            statuses = [
                (await http.get(f"{url}/connect/hugging-face")).status_code for _ in range(20)
            ]

    assert statuses[0] == 400
    assert 429 in statuses


def test_help_names_the_page() -> None:
    """A model reads it to a person who does not know how to begin."""
    page, without = (
        build_help_page(
            "https://holdfast.example",
            external_issuer="https://id.example",
            public_tools=["list_hardware"],
            can_connect=can_connect,
        )
        for can_connect in (True, False)
    )

    assert "https://holdfast.example/connect." in page
    assert "/connect" not in without


async def test_doctor_says_where_people_connect(
    make_settings: Callable[..., Settings], hub_emulator: HubEmulatorProcess
) -> None:
    """The two addresses are what an operator has to enter at two servers."""
    options = {
        "auth": "jwt",
        "jwt_issuer": "https://id.example",
        "oauth_client_id": "a",
        "hf_oauth_client_id": "b",
        "public_url": "https://holdfast.example",
    }
    good = await check_connecting(make_settings(hub_url=hub_emulator.url, **options))
    bad = await check_connecting(
        make_settings(hub_url=f"http://127.0.0.1:{find_free_port()}", **options)
    )

    assert (good.is_ok, bad.is_ok) == (True, False)
    assert "https://holdfast.example/connect/hugging-face" in good.message
    assert "https://holdfast.example/connect/sign-in" in good.message


def test_an_application_at_the_hub_alone_is_refused(vault_keys: str) -> None:
    """Without a sign-in before it, a link of somebody else's could connect their account."""
    with pytest.raises(Invalid, match="HOLDFAST_HF_OAUTH_CLIENT_ID needs HOLDFAST_OAUTH_CLIENT_ID"):
        Settings.from_env(
            {
                "HOLDFAST_DATABASE_URL": "postgresql://127.0.0.1/holdfast",
                "HOLDFAST_REDIS_URL": "redis://127.0.0.1/0",
                "HOLDFAST_VAULT_KEYS": vault_keys,
                "HOLDFAST_HF_OAUTH_CLIENT_ID": "app",
                "HOLDFAST_AUTH": "jwt",
                "HOLDFAST_JWT_ISSUER": "https://id.example",
            }
        )
