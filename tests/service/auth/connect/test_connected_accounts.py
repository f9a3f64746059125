"""A call with a connected account: its tokens are refreshed once, stored, and never lost."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx2
import pytest

from schema.accounts import connections
from schema.accounts.connections import AccountConnection, HubTokens, hash_sign_in
from schema.accounts.row_security import DatabaseRole
from schema.accounts.tables import ConnectionState
from schema.accounts.vault import Secret, Vault
from schema.common.errors import HoldfastError, Unavailable
from schema.db.database import Database
from schema.hub.client import open_hub_client
from schema.hub.oauth.upstream import REQUEST_LIMIT, Application, IssuerMetadata, UpstreamServer
from service.auth.caller import Caller
from service.auth.connected_accounts import ConnectedAccounts, ConnectionLost, HubAuthorityMissing
from service.auth.hub_client import HUB_CONNECT_TIMEOUT, HubAccountClient
from service.auth.jwt_verifier import ExternalIdentity
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.oauth.token_endpoint import (
    INVALID_GRANT,
    TokenEndpoint,
    serve_token_endpoint,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_ID, BOB_ID

CONNECT_URL: Final = "https://holdfast.example/connect"
ISSUER: Final = "https://id.example"
SIGN_IN_ID: Final = hash_sign_in(ISSUER, "ada")


@pytest.fixture
def token_endpoint(fake_hub: FakeHub) -> Generator[TokenEndpoint]:
    """An endpoint that answers at once; what it gives out is a token of Ada's."""
    endpoint = TokenEndpoint()
    fake_hub.whoami_by_token["hf_next"] = whoami_answer(ADA_ID, "ada")
    with serve_token_endpoint(endpoint):
        yield endpoint


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the service."""

    accounts: ConnectedAccounts

    async def call(self, subject: str = "ada", issuer: str = ISSUER) -> Caller:
        """Call as somebody whose sign-in has been verified."""
        now = datetime.now(UTC)
        return await self.accounts.authenticate(
            ExternalIdentity(
                issuer=issuer,
                subject=subject,
                audience="a",
                scopes=frozenset({"jobs"}),
                expires_at=now,
                valid_until=now,
                client_id=None,
                email=None,
                name=None,
            )
        )

    async def refusal(self) -> HoldfastError:
        """Call, and return why it is refused."""
        with pytest.raises(HoldfastError) as raised:
            await self.call()
        return raised.value


@asynccontextmanager
async def open_replica(
    database_url: str, vault: Vault, fake_hub: FakeHub, token_endpoint: TokenEndpoint
) -> AsyncGenerator[Replica]:
    """Open a process, in the role of the service."""
    async with (
        Database(database_url, application_name="tests", role=DatabaseRole.TENANT) as database,
        open_hub_client(fake_hub.url, connect_timeout=HUB_CONNECT_TIMEOUT) as hub,
        httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as session,
    ):
        tenants = TenantDatabase(database, vault)
        overrides = {
            "authorization_endpoint": f"{token_endpoint.url}/authorize",
            "token_endpoint": f"{token_endpoint.url}/token",
            "revocation_endpoint": f"{token_endpoint.url}/revoke",
        }
        upstream = UpstreamServer(
            session,
            IssuerMetadata(session, token_endpoint.url, overrides),
            Application("app", None, f"{CONNECT_URL}/hugging-face"),
            audience=None,
        )
        verifier = TokenVerifier(HubAccountClient(hub), tenants, vault)
        yield Replica(
            ConnectedAccounts(tenants, vault, verifier, upstream, connect_url=CONNECT_URL)
        )


@pytest.fixture
async def replica(
    database_url: str, vault: Vault, fake_hub: FakeHub, token_endpoint: TokenEndpoint
) -> AsyncGenerator[Replica]:
    """One process."""
    async with open_replica(database_url, vault, fake_hub, token_endpoint) as opened:
        yield opened


@pytest.fixture
async def connected(database: Database, vault: Vault) -> None:
    """Ada has connected her account an hour ago."""
    await connect(database, vault)


async def connect(database: Database, vault: Vault, access: str = "hf_ada") -> None:
    """Connect an account that was connected an hour ago, with a token that goes on."""
    async with database.transaction() as tx:
        await connections.connect_account(
            tx,
            vault,
            sign_in_id=SIGN_IN_ID,
            issuer=ISSUER,
            subject_id=ADA_ID,
            name="ada",
            tokens=HubTokens(Secret(access), Secret("refresh-0")),
            expires_in=timedelta(hours=8),
        )
        await tx.execute("UPDATE connected_account SET updated_at = now() - interval '1 h'")


async def expire(database: Database) -> None:
    """Let the access token be at its end."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET expires_at = now()")


async def read(database: Database, vault: Vault) -> AccountConnection:
    """Return what is stored."""
    async with database.transaction() as tx:
        connection = await connections.load_connection(tx, vault, SIGN_IN_ID)
    assert connection is not None
    return connection


@pytest.mark.usefixtures("connected")
async def test_a_sign_in_acts_with_its_account_and_no_other(
    replica: Replica, token_endpoint: TokenEndpoint
) -> None:
    """The same subject at another server is somebody else."""
    caller = await replica.call()

    with pytest.raises(HubAuthorityMissing, match=CONNECT_URL):
        await replica.call("eve")
    with pytest.raises(HubAuthorityMissing, match=CONNECT_URL):
        await replica.call("ada", "https://elsewhere.example")
    assert (caller.subject_id, token_endpoint.used) == (ADA_ID, [])


@pytest.mark.usefixtures("connected")
async def test_an_expired_token_is_refreshed_before_it_is_used(
    replica: Replica, database: Database, vault: Vault, fake_hub: FakeHub
) -> None:
    """The person notices nothing, and the next call uses what was stored."""
    await expire(database)

    callers = [await replica.call() for _ in range(2)]

    stored = await read(database, vault)
    assert [caller.subject_id for caller in callers] == [ADA_ID, ADA_ID]
    assert fake_hub.whoami_tokens == ["hf_next"]
    assert stored.tokens is not None
    assert (stored.version, stored.tokens.refresh.reveal()) == (2, "refresh-1")
    assert not stored.is_leased


async def test_a_token_that_the_hub_refuses_is_refreshed_once(
    replica: Replica, database: Database, vault: Vault, token_endpoint: TokenEndpoint
) -> None:
    """It may end early; but a new one that is refused too is not replaced at each call."""
    await connect(database, vault, "hf_dead")
    token_endpoint.next_access_token = "hf_dead_too"

    refusals = [await replica.refusal() for _ in range(3)]

    assert [type(each) for each in refusals] == [ConnectionLost] * 3
    assert token_endpoint.used == ["refresh-0"]


@pytest.mark.usefixtures("connected")
async def test_two_replicas_refresh_once(
    database_url: str,
    database: Database,
    vault: Vault,
    fake_hub: FakeHub,
    token_endpoint: TokenEndpoint,
    replica: Replica,
) -> None:
    """A refresh token that is used twice looks stolen, and ends the consent."""
    await expire(database)
    token_endpoint.gate.clear()
    subjects: list[str] = []

    async def call(process: Replica) -> None:
        subjects.append((await process.call()).subject_id)

    async with (
        open_replica(database_url, vault, fake_hub, token_endpoint) as other,
        anyio.create_task_group() as tasks,
    ):
        for process in (replica, other, replica, other):
            tasks.start_soon(call, process)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        token_endpoint.gate.set()

    assert subjects == [ADA_ID] * 4
    assert (token_endpoint.used, (await read(database, vault)).version) == (["refresh-0"], 2)


@pytest.mark.usefixtures("connected")
async def test_no_transaction_is_open_while_the_hub_is_asked(
    replica: Replica, database: Database, token_endpoint: TokenEndpoint
) -> None:
    """A slow Hub would else hold connections and locks of everybody."""
    await expire(database)
    token_endpoint.gate.clear()
    open_transactions: list[int] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replica.call)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        async with database.transaction() as tx:
            open_transactions.append(
                await tx.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL"
                    " AND datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        token_endpoint.gate.set()

    assert open_transactions == [0]


@pytest.mark.usefixtures("connected")
async def test_a_call_that_goes_away_does_not_lose_the_next_tokens(
    replica: Replica, database: Database, vault: Vault, token_endpoint: TokenEndpoint
) -> None:
    """The Hub has forgotten the refresh token of before when its answer is on the way."""
    await expire(database)
    token_endpoint.gate.clear()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replica.call)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        tasks.cancel_scope.cancel()
        token_endpoint.gate.set()

    stored = await read(database, vault)
    assert stored.tokens is not None
    assert (stored.version, stored.tokens.refresh.reveal()) == (2, "refresh-1")


@pytest.mark.usefixtures("connected")
async def test_tokens_that_come_after_a_disconnect_are_revoked(
    replica: Replica, database: Database, vault: Vault, token_endpoint: TokenEndpoint
) -> None:
    """Nobody else knows them, and they could be used until the person looks at the Hub."""
    await expire(database)
    token_endpoint.gate.clear()
    refusals: list[HoldfastError] = []

    async def call() -> None:
        refusals.append(await replica.refusal())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        seen = await read(database, vault)
        async with database.transaction() as tx:
            await connections.disconnect_account(
                tx, vault, sign_in_id=SIGN_IN_ID, connection_id=seen.connection_id
            )
        token_endpoint.gate.set()

    assert [type(each) for each in refusals] == [HubAuthorityMissing]
    assert token_endpoint.revoked == ["refresh-1"]


@pytest.mark.usefixtures("connected")
async def test_a_call_under_way_does_not_lend_the_token_of_a_deleted_connection(
    replica: Replica, database: Database, vault: Vault, fake_hub: FakeHub
) -> None:
    """`save_credential` compares the connection: its person has taken the token away from jobs."""
    seen = await read(database, vault)
    refusals: list[HoldfastError] = []

    async def call() -> None:
        refusals.append(await replica.refusal())

    fake_hub.whoami_gate = Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.to_thread.run_sync(fake_hub.whoami_was_called.wait, 20)
        async with database.transaction() as tx:
            await connections.disconnect_account(
                tx, vault, sign_in_id=SIGN_IN_ID, connection_id=seen.connection_id
            )
        fake_hub.whoami_gate.set()

    async with database.transaction() as tx:
        lent = await tx.fetchval("SELECT count(*) FROM credential WHERE octet_length(sealed) > 0")
    assert lent == 0
    assert [type(each) for each in refusals] == [HubAuthorityMissing]


async def test_a_slow_answer_ends_before_the_lease(token_endpoint: TokenEndpoint) -> None:
    """Else another process would send the refresh token a second time."""
    overrides = {
        "authorization_endpoint": f"{token_endpoint.url}/authorize",
        "token_endpoint": f"{token_endpoint.url}/drip",
    }
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as session:
        upstream = UpstreamServer(
            session,
            IssuerMetadata(session, token_endpoint.url, overrides),
            Application("app", None, f"{CONNECT_URL}/hugging-face"),
            audience=None,
            request_limit=timedelta(seconds=0.5),
        )
        with anyio.fail_after(HTTP_TIMEOUT_SECONDS), pytest.raises(Unavailable):
            await upstream.refresh_token("refresh-0", (), None)

    assert REQUEST_LIMIT < connections.REFRESH_LEASE


@pytest.mark.usefixtures("connected")
async def test_a_refused_refresh_token_ends_the_connection(
    replica: Replica, database: Database, vault: Vault, token_endpoint: TokenEndpoint
) -> None:
    """The person has taken it back; nothing but connecting again helps, and the answer says so."""
    await expire(database)
    token_endpoint.failure = INVALID_GRANT

    refusals = [await replica.refusal() for _ in range(2)]

    assert [type(each) for each in refusals] == [ConnectionLost] * 2
    assert CONNECT_URL in str(refusals[0])
    assert (await read(database, vault)).state is ConnectionState.REFUSED
    assert token_endpoint.used == ["refresh-0"]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    "failure",
    [
        (503, {}),
        (500, {"error": "invalid_grant"}),
        (429, {"error": "You have exceeded your rate limit"}),
        (401, {"error": "invalid_client"}),
        (400, {"error": "unauthorized_client"}),
        (403, {"error": "Blocked by a firewall"}),
    ],
)
async def test_an_outage_of_the_hub_ends_nothing_and_lets_nobody_in(
    replica: Replica,
    database: Database,
    vault: Vault,
    token_endpoint: TokenEndpoint,
    failure: tuple[int, dict[str, Any]],
) -> None:
    """Only one answer says that the token is worth nothing; after any other it is tried again."""
    await expire(database)
    token_endpoint.failure = failure

    refusal = await replica.refusal()

    stored = await read(database, vault)
    assert isinstance(refusal, Unavailable)
    assert (stored.state, stored.version, stored.is_leased) == (
        ConnectionState.CONNECTED,
        1,
        False,
    )


@pytest.mark.usefixtures("connected")
async def test_a_refresh_token_that_is_not_replaced_goes_on(
    replica: Replica, database: Database, vault: Vault, token_endpoint: TokenEndpoint
) -> None:
    """A server need not rotate (RFC 6749, section 6)."""
    await expire(database)
    token_endpoint.rotates = False

    await replica.call()

    stored = await read(database, vault)
    assert stored.tokens is not None
    assert (stored.version, stored.tokens.refresh.reveal()) == (2, "refresh-0")


@pytest.mark.usefixtures("connected")
async def test_tokens_of_another_account_are_not_used(
    replica: Replica, database: Database, token_endpoint: TokenEndpoint, fake_hub: FakeHub
) -> None:
    """The person has confirmed one account, and would act as another."""
    await expire(database)
    fake_hub.whoami_by_token["hf_next"] = whoami_answer(BOB_ID, "bob")

    refusal = await replica.refusal()

    assert isinstance(refusal, ConnectionLost)
    assert token_endpoint.used == ["refresh-0"]


@pytest.mark.usefixtures("connected")
async def test_no_token_is_in_a_log_or_an_error(
    replica: Replica,
    database: Database,
    token_endpoint: TokenEndpoint,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither after a refresh nor after a refusal of it."""
    await expire(database)
    await replica.call()
    await expire(database)
    token_endpoint.failure = (400, {"error": "invalid_grant", "error_description": "refresh-1"})

    text = str(await replica.refusal())

    # To the first unless a test before has configured logging.
    printed = "".join(capsys.readouterr()) + caplog.text + text
    assert "connection.refused" in printed
    for secret in ("hf_next", "hf_ada", "refresh-0", "refresh-1"):
        assert secret not in printed
