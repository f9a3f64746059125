"""Jobs of a connected account go on while nobody calls: workers refresh its tokens."""

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx2
import pytest

from schema.accounts import connections, credentials
from schema.accounts.connections import AccountConnection, HubTokens, hash_sign_in
from schema.accounts.tables import ConnectionState
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database, Transaction
from schema.hub.oauth.connection_refresh import ConnectionRefresher
from schema.hub.oauth.upstream import Application, IssuerMetadata, UpstreamServer
from schema.settings import Settings
from service.local.hub_emulator.users import find_user
from tests.support.factories import JobFactory
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.jobs.schedule_states import make_schedule
from tests.support.oauth.consent_browser import OAuthTokens, SignInClient
from tests.support.oauth.token_endpoint import (
    INVALID_GRANT,
    TokenEndpoint,
    serve_token_endpoint,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.loops.engine import run_loops
from workers.loops.refresh_accounts import refresh_due_accounts
from workers.worker import build_worker

ISSUER: Final = "https://id.example"
SIGN_IN_ID: Final = hash_sign_in(ISSUER, "ada")
FIRST: Final = HubTokens(Secret("hf_first"), Secret("refresh-0"))
SHORT: Final = timedelta(seconds=2)
"""The life of the first token."""
FINAL_STATES: Final = {"succeeded", "failed", "cancelled", "expired"}


@pytest.fixture
def token_endpoint() -> Generator[TokenEndpoint]:
    """An endpoint that answers at once."""
    with serve_token_endpoint(TokenEndpoint()) as endpoint:
        yield endpoint


@pytest.fixture
async def refreshing_worker(
    worker: Worker, token_endpoint: TokenEndpoint
) -> AsyncGenerator[Worker]:
    """A worker without loops, with an application at that endpoint."""
    overrides = {
        "authorization_endpoint": f"{token_endpoint.url}/authorize",
        "token_endpoint": f"{token_endpoint.url}/token",
        "revocation_endpoint": f"{token_endpoint.url}/revoke",
    }
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as session:
        hub = UpstreamServer(
            session,
            IssuerMetadata(session, token_endpoint.url, overrides),
            Application("app", None, ""),
            audience=None,
        )
        refresher = ConnectionRefresher(
            worker.database.transaction, worker.vault, hub, lends_tokens=True
        )
        yield replace(worker, refresher=refresher)


async def connect(
    database: Database,
    vault: Vault,
    tokens: HubTokens = FIRST,
    *,
    life: timedelta = timedelta(0),
    lends: bool = True,
) -> None:
    """Connect Ada's account, and lend its token to her jobs, as a call does."""
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM credential")
        await connections.connect_account(
            tx,
            vault,
            sign_in_id=SIGN_IN_ID,
            issuer=ISSUER,
            subject_id=ADA_ID,
            name="ada",
            tokens=tokens,
            expires_in=life,
            grants=["jobs"],
        )
        if lends:
            await credentials.save_credential(
                tx,
                vault,
                subject_id=ADA_ID,
                name="ada",
                token=tokens.access,
                expires_at=await tx.fetchval("SELECT expires_at FROM connected_account"),
                grants=["jobs", "org:acme"],
            )


async def read(database: Database, vault: Vault) -> AccountConnection:
    """Return the connection that is stored."""
    async with database.transaction() as tx:
        connection = await connections.load_connection(tx, vault, SIGN_IN_ID)
    assert connection is not None
    return connection


async def read_lent(database: Database, vault: Vault) -> tuple[str | None, str | None]:
    """Return the token that Ada's jobs act with, and why they are held."""
    async with database.transaction() as tx:
        lent = await credentials.load_token(tx, vault, ADA_ID)
        hold = await tx.fetchval("SELECT hold FROM subject WHERE id = $1", ADA_ID)
    return (None if lent is None else lent.token.reveal()), hold


@pytest.fixture
def short_lived_hub(tmp_path: Path) -> Generator[HubEmulatorProcess]:
    """A Hub of its own, where the life of tokens can be set."""
    with run_hub_emulator(tmp_path / "hub") as running:
        yield running


async def set_token_life(hub: HubEmulatorProcess, life: timedelta) -> None:
    """Let the Hub issue tokens of this life from now on."""
    headers = {"authorization": f"Bearer {find_user(hub.users, 'alice').token}"}
    async with AsyncHttpClient(base_url=hub.url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.post(
            "/_emulator/oauth/lifetime", json={"seconds": life.total_seconds()}, headers=headers
        )
    answer.raise_for_status()


async def test_a_job_goes_on_after_its_token_has_ended_and_nobody_calls(
    short_lived_hub: HubEmulatorProcess,
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    make_job: JobFactory,
    tmp_path: Path,
) -> None:
    """Its token ends while it runs; a worker gets the next one, sees the end and tells it."""
    gate = tmp_path / "gate"
    await set_token_life(short_lived_hub, SHORT)
    async with AsyncHttpClient(base_url=short_lived_hub.url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        program = await SignInClient.register(http)
        tokens: OAuthTokens = await program.obtain_tokens(scope="openid jobs")
    await set_token_life(short_lived_hub, timedelta(hours=1))
    first = HubTokens(Secret(tokens.access_token), Secret(tokens.refresh_token))
    await connect(database, vault, first, life=SHORT)
    job = await make_job(
        namespace="alice",
        spec={
            "image": "python:3.12",
            "command": ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done"],
            "timeout": 60,
        },
    )
    settings = make_settings(
        hub_url=short_lived_hub.url,
        auth="jwt",
        jwt_issuer=ISSUER,
        oauth_client_id="app",
        hf_oauth_client_id=program.client_id,
        observe_min="200ms",
        sweep="200ms",
    )
    states: list[str] = []

    async def read_version() -> int:
        return (await read(database, vault)).version

    async def read_state() -> str:
        async with database.transaction() as tx:
            state: str = await tx.fetchval("SELECT state FROM job WHERE id = $1", job.id)
        return state

    async with build_worker(settings) as running, anyio.create_task_group() as tasks:
        stop = anyio.Event()
        tasks.start_soon(run_loops, running, stop)
        await eventually(read_version, lambda version: version > 1)
        gate.touch()
        states.append(await eventually(read_state, lambda state: state in FINAL_STATES))
        stop.set()

    assert states == ["succeeded"]


async def test_two_workers_refresh_once(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """A refresh token that is used twice looks stolen, and ends the consent."""
    await connect(database, vault)
    token_endpoint.gate.clear()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresh_due_accounts, refreshing_worker)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        await refresh_due_accounts(refreshing_worker)
        token_endpoint.gate.set()

    assert (token_endpoint.used, (await read(database, vault)).version) == (["refresh-0"], 2)


async def test_the_next_token_is_lent_and_ends_the_hold(
    refreshing_worker: Worker, database: Database, vault: Vault
) -> None:
    """It allows what the one before did; that its person has called is not claimed."""
    await connect(database, vault)
    before = await read_lent(database, vault)
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET seen_at = now() - interval '1 day'")

    await refresh_due_accounts(refreshing_worker)

    async with database.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT grants, seen_at < now() - interval '23 h' AS is_old FROM credential"
        )
    assert row is not None
    assert (before, await read_lent(database, vault)) == ((None, "credentials"), ("hf_next", None))
    assert (row["grants"], row["is_old"]) == (["jobs", "org:acme"], True)


async def test_no_transaction_is_open_while_the_hub_is_asked(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """A slow Hub would else hold connections and locks of everybody."""
    await connect(database, vault)
    token_endpoint.gate.clear()
    open_transactions: list[int] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresh_due_accounts, refreshing_worker)
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


async def test_a_refused_refresh_token_holds_the_jobs(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """As those of anybody whose token has ended; their person connects again."""
    await connect(database, vault)
    token_endpoint.failure = INVALID_GRANT

    for _ in range(2):
        await refresh_due_accounts(refreshing_worker)

    assert (await read(database, vault)).state is ConnectionState.REFUSED
    assert await read_lent(database, vault) == (None, "credentials")
    assert token_endpoint.used == ["refresh-0"]


async def test_after_an_outage_workers_wait_and_try_again(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """All of them together; a call of their person need not wait."""
    await connect(database, vault)
    token_endpoint.failure = (503, {})
    for _ in range(2):
        await refresh_due_accounts(refreshing_worker)
    is_leased = (await read(database, vault)).is_leased
    attempts = len(token_endpoint.used)

    token_endpoint.failure = None
    token_endpoint.used.clear()
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET leased_until = now() - interval '16 s'")
    await refresh_due_accounts(refreshing_worker)

    assert (attempts, is_leased) == (1, False)
    assert (await read_lent(database, vault)) == ("hf_next", None)


async def test_tokens_that_come_after_a_disconnect_are_revoked_and_not_lent(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """Nobody else knows them, and the person has taken the account away."""
    await connect(database, vault)
    seen = await read(database, vault)
    token_endpoint.gate.clear()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresh_due_accounts, refreshing_worker)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        async with database.transaction() as tx:
            await connections.disconnect_account(
                tx, vault, sign_in_id=SIGN_IN_ID, connection_id=seen.connection_id
            )
        token_endpoint.gate.set()

    assert token_endpoint.revoked == ["refresh-1"]
    assert await read_lent(database, vault) == (None, "credentials")


async def nothing_lent(tx: Transaction) -> None:
    """Nothing of Ada's is open, and she has not called for a while."""
    await tx.execute("DELETE FROM credential")


async def token_of_their_own(tx: Transaction) -> None:
    """Ada has sent a token that has no end."""
    await tx.execute("UPDATE credential SET expires_at = NULL, token_sha = 'another'")


async def token_that_lives(tx: Transaction) -> None:
    """The token of the connection goes on for a while."""
    await tx.execute("UPDATE connected_account SET expires_at = now() + interval '6 min'")


async def young_token(tx: Transaction) -> None:
    """A token that is short-lived has most of its life before it."""
    await tx.execute("UPDATE connected_account SET expires_at = now() + interval '1 min'")


@pytest.mark.parametrize(
    "prepare", [nothing_lent, token_of_their_own, token_that_lives, young_token]
)
async def test_nothing_is_refreshed_that_nobody_needs(
    refreshing_worker: Worker,
    token_endpoint: TokenEndpoint,
    database: Database,
    vault: Vault,
    prepare: Callable[[Transaction], Any],
) -> None:
    """Each refresh is a request to the Hub, and may lose the token."""
    await connect(database, vault)
    async with database.transaction() as tx:
        await prepare(tx)

    await refresh_due_accounts(refreshing_worker)

    assert token_endpoint.used == []


async def test_a_schedule_has_a_token_though_nothing_else_is_open(
    refreshing_worker: Worker, database: Database, vault: Vault
) -> None:
    """Its next job would be held else; the token that ended was deleted meanwhile."""
    await connect(database, vault, lends=False)
    await make_schedule(database, vault)

    await refresh_due_accounts(refreshing_worker)

    assert (await read_lent(database, vault))[0] == "hf_next"


async def test_another_token_that_is_valid_stays(
    refreshing_worker: Worker, token_endpoint: TokenEndpoint, database: Database, vault: Vault
) -> None:
    """Ada sends it while the Hub is asked."""
    await connect(database, vault)
    token_endpoint.gate.clear()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refresh_due_accounts, refreshing_worker)
        await anyio.to_thread.run_sync(token_endpoint.was_called.wait, 20)
        async with database.transaction() as tx:
            await credentials.save_credential(
                tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_own"), expires_at=None
            )
        token_endpoint.gate.set()

    assert await read_lent(database, vault) == ("hf_own", None)
    assert (await read(database, vault)).version == 2
