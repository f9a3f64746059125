"""Accounts that are connected: whose they are, who refreshes them, and what is never lost."""

import asyncio
import base64
import os
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from schema.accounts import connections
from schema.accounts.connections import AccountConnection, HubTokens
from schema.accounts.credentials import save_credential
from schema.accounts.key_rotation import count_lost_rows, rotate_keys
from schema.accounts.row_security import act_as_sign_in
from schema.accounts.tables import ConnectionState
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database, Transaction
from schema.jobs.retention.pruning import prune_expired
from tests.support.database.lock_waits import run_in_turn_at_lock
from tests.support.database.row_security import tenant_transaction
from tests.support.jobs.retention import uniform_periods
from tests.support.subjects import ADA_ID, BOB_ID, EVE_ID

ISSUER = "https://id.example"
ADA_SIGN_IN = connections.hash_sign_in(ISSUER, "ada")
EVE_SIGN_IN = connections.hash_sign_in(ISSUER, "eve")
FIRST = HubTokens(Secret("hf_oauth_first"), Secret("hf_oauth__refresh_first"))
NEXT = HubTokens(Secret("hf_oauth_next"), Secret("hf_oauth__refresh_next"))
HOUR = timedelta(hours=1)


async def connect(
    tx: Transaction,
    vault: Vault,
    sign_in_id: str = ADA_SIGN_IN,
    subject_id: str = ADA_ID,
    tokens: HubTokens = FIRST,
) -> None:
    """Connect an account."""
    await connections.connect_account(
        tx,
        vault,
        sign_in_id=sign_in_id,
        issuer=ISSUER,
        subject_id=subject_id,
        name="somebody",
        tokens=tokens,
        expires_in=HOUR,
        grants=["jobs"],
    )


async def load(
    database: Database, vault: Vault, sign_in_id: str = ADA_SIGN_IN
) -> AccountConnection:
    """Return a connection that is there."""
    async with database.transaction() as tx:
        connection = await connections.load_connection(tx, vault, sign_in_id)
    assert connection is not None
    return connection


async def lease(database: Database, connection: AccountConnection) -> bool:
    """Try to take the right to refresh, in a transaction of its own."""
    async with database.transaction() as tx:
        return await connections.lease_refresh(tx, connection)


async def store(database: Database, vault: Vault, connection: AccountConnection) -> bool:
    """Store what the Hub gave for a version."""
    async with database.transaction() as tx:
        return await connections.store_refreshed_tokens(
            tx, vault, connection, NEXT, expires_in=HOUR
        )


async def refuse(database: Database, connection: AccountConnection) -> None:
    """Record that the Hub refused a version."""
    async with database.transaction() as tx:
        await connections.mark_connection_refused(tx, connection)


def reveal(connection: AccountConnection) -> list[str] | None:
    """Return the tokens as text."""
    tokens = connection.tokens
    return None if tokens is None else [tokens.access.reveal(), tokens.refresh.reveal()]


@pytest.fixture
async def connected(database: Database, vault: Vault) -> AccountConnection:
    """Ada's account, connected."""
    async with database.transaction() as tx:
        await connect(tx, vault)
    return await load(database, vault)


def test_a_sign_in_is_its_issuer_and_its_subject() -> None:
    """Another server may call somebody else the same, and no two pairs may run together."""
    hashes = [
        connections.hash_sign_in(*pair)
        for pair in (("https://a", "1"), ("https://b", "1"), ("https://a1", ""), ("https://a", ""))
    ]

    assert len(set(hashes)) == 4


async def test_tokens_do_not_open_in_the_row_of_another(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """Whoever can move rows could act as somebody else."""
    async with database.transaction() as tx:
        await connect(tx, vault, EVE_SIGN_IN, EVE_ID, NEXT)
        await tx.execute(
            "UPDATE connected_account SET sealed = (SELECT sealed FROM connected_account"
            " WHERE sign_in_id = $1) WHERE sign_in_id = $2",
            ADA_SIGN_IN,
            EVE_SIGN_IN,
        )

    assert reveal(connected) == ["hf_oauth_first", "hf_oauth__refresh_first"]
    assert reveal(await load(database, vault, EVE_SIGN_IN)) is None


async def test_another_sign_in_sees_and_changes_nothing(
    database_url: str, connected: AccountConnection
) -> None:
    """Row-level security compares the sign-in, whatever a statement forgets."""
    async with tenant_transaction(database_url, EVE_ID) as tx:
        await act_as_sign_in(tx, EVE_SIGN_IN)
        seen = await tx.fetchval("SELECT count(*) FROM connected_account")
        deleted = await tx.execute("DELETE FROM connected_account")
    async with tenant_transaction(database_url, None) as tx:
        by_nobody = await tx.fetchval("SELECT count(*) FROM connected_account")
        await act_as_sign_in(tx, ADA_SIGN_IN)
        by_its_own = await tx.fetchval("SELECT count(*) FROM connected_account")

    assert (seen, deleted, by_nobody, by_its_own) == (0, "DELETE 0", 0, 1)


@pytest.mark.parametrize(
    ("sign_in_id", "subject_id"), [(ADA_SIGN_IN, EVE_ID), (EVE_SIGN_IN, ADA_ID)]
)
async def test_nothing_is_connected_in_somebody_elses_name(
    database_url: str,
    database: Database,
    vault: Vault,
    ada_id: str,
    sign_in_id: str,
    subject_id: str,
) -> None:
    """Neither with the account of another nor with their sign-in, by one who is half of it."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    statement = """
        INSERT INTO connected_account (sign_in_id, connection_id, issuer, subject_id, sealed)
        VALUES ($1, gen_random_uuid(), 'i', $2, 'x')
    """

    async def insert() -> None:
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await act_as_sign_in(tx, EVE_SIGN_IN)
            await tx.execute(statement, sign_in_id, subject_id)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await insert()
    assert ada_id == ADA_ID


async def test_one_process_at_a_time_refreshes(
    database: Database, connected: AccountConnection
) -> None:
    """A refresh token that is used twice looks stolen, and the Hub may end the consent."""
    both = await asyncio.gather(lease(database, connected), lease(database, connected))
    later = await lease(database, connected)

    assert (sorted(both), later) == ([False, True], False)


@pytest.mark.parametrize("leased_until", ["now() - interval '1 s'", "now() + interval '1 day'"])
async def test_a_lease_that_nobody_can_have_is_taken_over(
    database: Database, connected: AccountConnection, leased_until: str
) -> None:
    """Its process is dead, or the clock has been set back."""
    async with database.transaction() as tx:
        await tx.execute(f"UPDATE connected_account SET leased_until = {leased_until}")  # noqa: S608

    assert await lease(database, connected)


async def test_a_late_refresh_changes_nothing_that_is_newer(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """What was stored since came from the later refresh token, which alone still counts."""
    stored = await store(database, vault, connected)
    again = await store(database, vault, connected)
    await refuse(database, connected)
    latest = await load(database, vault)

    assert (stored, again, latest.version) == (True, False, 2)
    assert reveal(latest) == ["hf_oauth_next", "hf_oauth__refresh_next"]
    assert not await lease(database, connected)


async def test_rotated_tokens_are_stored_although_another_process_was_refused(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """A second process took the lease over, and was refused what the first had used."""
    assert await lease(database, connected)
    await refuse(database, connected)

    assert await store(database, vault, connected)
    latest = await load(database, vault)
    assert (latest.state, reveal(latest)) == (
        ConnectionState.CONNECTED,
        ["hf_oauth_next", "hf_oauth__refresh_next"],
    )


async def test_a_refresh_does_not_reach_a_connection_that_was_made_since(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """Its version is 1 again; the tokens would be those of the account before."""
    async with database.transaction() as tx:
        revoked = await connections.disconnect_account(
            tx, vault, sign_in_id=ADA_SIGN_IN, connection_id=connected.connection_id
        )
        assert await connections.load_connection(tx, vault, ADA_SIGN_IN) is None
        await connect(tx, vault, subject_id=BOB_ID)

    stored = await store(database, vault, connected)
    await refuse(database, connected)
    async with database.transaction() as tx:
        assert not await connections.lease_refresh(tx, connected)
        late = await connections.disconnect_account(
            tx, vault, sign_in_id=ADA_SIGN_IN, connection_id=connected.connection_id
        )
    latest = await load(database, vault)

    assert revoked is not None
    assert revoked.tokens is not None
    assert revoked.tokens.refresh.reveal() == "hf_oauth__refresh_first"
    assert (stored, late) == (False, None)
    assert (latest.subject_id, latest.version, reveal(latest)) == (
        BOB_ID,
        1,
        ["hf_oauth_first", "hf_oauth__refresh_first"],
    )


async def test_refused_tokens_are_deleted(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """They are for nothing any more; the row says that the person has to connect again."""
    await refuse(database, connected)
    await refuse(database, connected)
    latest = await load(database, vault)
    async with database.transaction() as tx:
        entries = await tx.fetch("SELECT action FROM audit_entry ORDER BY id")

    assert (latest.state, latest.tokens) == (ConnectionState.REFUSED, None)
    assert [entry["action"] for entry in entries] == ["account_connected", "connection_refused"]
    assert not await lease(database, replace(latest, version=1))


async def test_connected_accounts_are_sealed_again_with_a_new_key(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """Else the old key could never be taken out of the ring."""
    new_key = base64.b64encode(os.urandom(32)).decode()
    old_key = base64.b64encode(b"\0" * 32).decode()
    async with database.transaction() as tx:
        await connect(tx, Vault({"old": b"\0" * 32}))
    both = Vault.from_key_ring(f"new:{new_key},old:{old_key}")

    counts = await rotate_keys(database, both)

    new_only = Vault.from_key_ring(f"new:{new_key}")
    assert (counts.resealed, await count_lost_rows(database, new_only)) == (1, 0)
    assert reveal(await load(database, new_only)) is not None
    assert reveal(await load(database, vault)) is None


@pytest.mark.parametrize(
    ("token", "state_after"),
    [
        (FIRST.access, ("refused", False, "credentials")),
        (Secret("hf_of_their_own"), ("valid", True, None)),
    ],
    ids=["of_the_connection", "of_their_own"],
)
async def test_jobs_do_not_go_on_with_the_token_of_a_deleted_connection(
    database_url: str,
    database: Database,
    vault: Vault,
    connected: AccountConnection,
    token: Secret,
    state_after: tuple[str, bool, str | None],
) -> None:
    """It is deleted and its subject held; another token of theirs is not touched."""
    async with tenant_transaction(database_url, ADA_ID) as tx:
        await save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=token, expires_at=None
        )
    async with tenant_transaction(database_url, ADA_ID) as tx:
        await act_as_sign_in(tx, ADA_SIGN_IN)
        deleted = await connections.disconnect_account(
            tx, vault, sign_in_id=ADA_SIGN_IN, connection_id=connected.connection_id
        )

    async with database.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT state, octet_length(sealed) > 0 AS is_stored, hold"
            "  FROM credential JOIN subject ON subject.id = subject_id"
        )
    assert deleted is not None
    assert row is not None
    assert (row["state"], row["is_stored"], row["hold"]) == state_after


async def test_a_token_and_the_end_of_its_connection_wait_for_each_other(
    database: Database, vault: Vault
) -> None:
    """Whichever is first, jobs have no token of the connection afterwards."""
    counts: list[int] = []
    connection_ids: list[UUID] = []

    async def save(tx: Transaction) -> None:
        await save_credential(
            tx,
            vault,
            subject_id=ADA_ID,
            name="ada",
            token=FIRST.access,
            expires_at=None,
            connection_id=connection_ids[-1],
        )

    async def disconnect(tx: Transaction) -> None:
        await connections.disconnect_account(
            tx, vault, sign_in_id=ADA_SIGN_IN, connection_id=connection_ids[-1]
        )

    for steps in ((save, disconnect), (disconnect, save)):
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM credential")
            await connect(tx, vault)
        connection_ids.append((await load(database, vault)).connection_id)
        await run_in_turn_at_lock(database, "SELECT FROM subject FOR UPDATE", *steps)
        async with database.transaction() as tx:
            counts.append(
                await tx.fetchval(
                    "SELECT count(*) FROM credential WHERE state = 'valid' OR sealed <> ''"
                )
            )

    assert counts == [0, 0]


async def test_a_token_is_lent_only_by_its_own_connection(
    database_url: str, database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """Neither by one that was made since, nor by that of another account."""
    async with database.transaction() as tx:
        await connect(tx, vault, EVE_SIGN_IN, EVE_ID)
    stranger = await load(database, vault, EVE_SIGN_IN)
    saved: list[bool] = []
    for connection_id in (stranger.connection_id, connected.connection_id):
        async with tenant_transaction(database_url, ADA_ID) as tx:
            saved.append(
                await save_credential(
                    tx,
                    vault,
                    subject_id=ADA_ID,
                    name="ada",
                    token=FIRST.access,
                    expires_at=None,
                    connection_id=connection_id,
                )
            )

    assert saved == [False, True]


async def test_a_refresh_without_a_scope_leaves_the_grants(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """A server may leave it out when it is that of before (RFC 6749, section 5.1)."""
    assert await store(database, vault, connected)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT grants FROM connected_account") == ["jobs"]


async def test_a_connection_that_is_used_meanwhile_is_not_deleted(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """The call that used it was first, and its person would have to connect again."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET used_at = now() - interval '31 days'")

    await run_in_turn_at_lock(
        database,
        "SELECT FROM connected_account FOR UPDATE",
        lambda tx: connections.record_use(tx, ADA_SIGN_IN),
        lambda tx: connections.delete_unused_connections(tx, period=timedelta(days=30), limit=10),
    )

    assert (await load(database, vault)).connection_id == connected.connection_id


async def test_what_nobody_uses_is_deleted(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """A token that can spend money is not stored for somebody who does not come back."""
    month = timedelta(days=30)
    counts: list[int] = []
    for age in ("30 days", "31 days"):
        async with database.transaction() as tx:
            await tx.execute(
                "UPDATE connected_account SET used_at = now() - $1::text::interval", age
            )
            await prune_expired(tx, periods=uniform_periods(month))
            counts.append(await tx.fetchval("SELECT count(*) FROM connected_account"))

    assert connected.is_use_due is False
    assert counts == [1, 0]


async def test_a_use_is_written_once_an_hour(
    database: Database, vault: Vault, connected: AccountConnection
) -> None:
    """A call reads the row each time, and writes it seldom."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET used_at = now() - interval '2 h'")
    is_due = (await load(database, vault)).is_use_due
    async with database.transaction() as tx:
        await connections.record_use(tx, ADA_SIGN_IN)

    assert (is_due, (await load(database, vault)).is_use_due) == (True, False)
