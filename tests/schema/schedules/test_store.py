"""What a subject does with their schedules, and what goes with one."""

import base64
import os
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import anyio
import pytest

from schema.accounts import credentials, key_rotation
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.common.errors import IdempotencyConflict, Invalid, TooManySchedules
from schema.db.database import Database, Transaction
from schema.schedules import store as schedule_store
from tests.support.database.row_security import tenant_transaction
from tests.support.database.subject_statements import order_arguments, without_subject_comparison
from tests.support.jobs import schedule_states
from tests.support.jobs.retention import prune_older_than
from tests.support.jobs.schedule_states import SCHEDULE_REQUEST, read_schedule
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, EVE_ID

HOUR: Final = timedelta(hours=1)


@pytest.mark.usefixtures("ada_id")
async def test_the_same_key_is_one_schedule_and_another_request_a_conflict(
    database: Database, vault: Vault
) -> None:
    """A client that never saw the answer asks again, and two schedules would pay twice for ever."""
    first = await schedule_states.make_schedule(database, vault, idempotency_key="k")

    assert await schedule_states.make_schedule(database, vault, idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict) as conflict:
        await schedule_states.make_schedule(
            database, vault, idempotency_key="k", cron="@daily", labels={"team": "b"}
        )

    assert conflict.value.fields == ["cron", "labels"]
    async with database.transaction() as tx:
        assert len(await schedule_store.list_schedules(tx, ADA_ID, before=None, limit=10)) == 1


@pytest.mark.usefixtures("ada_id")
async def test_there_are_so_many_schedules_and_no_more(database: Database, vault: Vault) -> None:
    """Two that are made at once could both find the last place free."""
    await schedule_states.make_schedule(database, vault, idempotency_key="k")
    refused: list[str] = []

    async def one_more(tx: Transaction) -> None:
        now, schedule_id = await schedule_store.read_database_time(tx), ids.new_id()
        await schedule_store.create_schedule(
            tx, vault, ADA_ID, schedule_id, SCHEDULE_REQUEST, next_at=now, secrets={}
        )

    async def another() -> None:
        try:
            async with database.transaction() as tx:
                await one_more(tx)
        except TooManySchedules as error:
            refused.append(str(error))
        else:
            refused.append("was let in")

    async def is_stopped() -> bool:
        async with database.transaction() as tx:
            waiting: bool = await tx.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock')"
            )
        return waiting or bool(refused)

    async with anyio.create_task_group() as tasks, database.transaction() as tx:
        for _ in range(schedule_store.MAX_SCHEDULES - 1):
            await one_more(tx)
        tasks.start_soon(another)
        await eventually(is_stopped, bool)

    assert len(refused) == 1
    assert "You have 100 schedules" in refused[0]
    await schedule_states.make_schedule(database, vault, idempotency_key="k")


@pytest.mark.usefixtures("ada_id")
async def test_a_request_that_is_too_large_is_refused(database: Database, vault: Vault) -> None:
    """It could never be launched."""
    spec = SCHEDULE_REQUEST.spec | {"command": [base64.b64encode(os.urandom(900_000)).decode()]}

    with pytest.raises(Invalid, match="no schedule was made"):
        await schedule_states.make_schedule(database, vault, spec=spec)


@pytest.mark.usefixtures("ada_id")
async def test_what_a_schedule_has_goes_with_it_and_its_jobs_stay(
    database: Database, vault: Vault, row_in_every_table: None
) -> None:
    """A secret that outlives what it was for is one that can leak."""
    async with database.transaction() as tx:
        (schedule,) = await schedule_store.list_schedules(tx, ADA_ID, before=None, limit=10)
        job_count = await tx.fetchval("SELECT count(*) FROM job")

    async with database.transaction() as tx:
        assert await schedule_store.delete_schedule(tx, ADA_ID, schedule.id) is not None
        assert await schedule_store.delete_schedule(tx, ADA_ID, schedule.id) is None
        left = {
            table: await tx.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  # our names
            for table in ("schedule", "schedule_firing", "schedule_secret", "job")
        }

    assert left == {"schedule": 0, "schedule_firing": 0, "schedule_secret": 0, "job": job_count}


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        ("UPDATE credential SET expires_at = now() + interval '1 hour'", True),
        ("UPDATE credential SET expires_at = now() - interval '1 second'", False),
        ("UPDATE credential SET state = 'refused'", False),
        ("UPDATE schedule SET next_at = NULL, due_at = NULL, paused_at = now()", False),
        ("DELETE FROM schedule", False),
    ],
)
@pytest.mark.usefixtures("ada_id")
async def test_a_token_is_kept_while_a_schedule_may_need_it_and_no_longer(
    database: Database,
    vault: Vault,
    state: str,
    stays: bool,  # noqa: FBT001  # a parameter
) -> None:
    """A token is lent for work; with no work left it has no business here."""
    await schedule_states.make_schedule(database, vault, due_in=HOUR)
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET seen_at = now() - interval '1 day'")
        await tx.execute(state)

    async with database.transaction() as tx:
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT EXISTS (SELECT FROM credential)") is stays


@pytest.mark.usefixtures("ada_id")
async def test_secrets_of_schedules_are_sealed_anew_with_all_others(
    database: Database, vault_keys: str
) -> None:
    """A schedule may live for years; a key that is not rotated lives as long."""
    schedule_id = await schedule_states.make_schedule(
        database, Vault.from_key_ring(vault_keys), secrets={"KEY": Secret("hidden")}
    )
    added = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    await key_rotation.rotate_keys(database, Vault.from_key_ring(f"{added},{vault_keys}"))

    async with database.transaction() as tx:
        opened = await sealed_secrets.open_schedule_secrets(
            tx, Vault.from_key_ring(added), schedule_id
        )
    assert opened["KEY"].reveal() == "hidden"


async def test_old_firings_are_forgotten_and_the_schedule_is_not(
    database: Database, row_in_every_table: None
) -> None:
    """One every five minutes is a hundred thousand a year."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE schedule_firing SET at = now() - interval '2 days'")
    async with database.transaction() as tx:
        await prune_older_than(tx, timedelta(days=3))
        assert await tx.fetchval("SELECT count(*) FROM schedule_firing") == 1

        await prune_older_than(tx, timedelta(days=1))

        assert await tx.fetchval("SELECT count(*) FROM schedule_firing") == 0
        assert await tx.fetchval("SELECT count(*) FROM schedule") == 1


SCHEDULE_WRITES: Final[dict[str, list[Any] | dict[str, Any]]] = {
    "schedules.store._UPDATE_SCHEDULE": {
        "subject_id": EVE_ID,
        "schedule_id": "id",
        "name": "mine",
        "cron": "@daily",
        "timezone": "UTC",
        "overlap": "skip",
        "missed": "skip",
        "next_at": None,
        "fire_now": True,
        "client": None,
        "handle": "sched_x",
    },
    "schedules.store._DELETE_SCHEDULE": [EVE_ID, "id", None, "sched_x"],
    "schedules.store._LOCK_SUBJECT": [ADA_ID],
}


@pytest.mark.parametrize("name", SCHEDULE_WRITES)
async def test_a_move_that_forgets_whose_moves_nothing_of_anybody_elses(
    database: Database, database_url: str, row_in_every_table: None, name: str
) -> None:
    """A schedule that somebody else changes runs in its owner's name, at their cost."""
    async with database.transaction() as tx:
        schedule_id: UUID = await tx.fetchval("SELECT id FROM schedule")
    arguments = [
        schedule_id if argument == "id" else argument
        for argument in order_arguments(name, SCHEDULE_WRITES[name])
    ]
    before = await read_schedule(database, schedule_id)

    for subject in (EVE_ID, None):
        async with tenant_transaction(database_url, subject) as tx:
            assert await tx.fetch(without_subject_comparison(name), *arguments) == []

    after = await read_schedule(database, schedule_id)
    assert after.model_copy(update={"read_at": before.read_at}) == before
    async with database.transaction() as tx:
        assert await tx.fetch(without_subject_comparison(name), *arguments), (
            "the statement still compares"
        )


async def test_a_schedule_is_made_in_nobody_elses_name(
    database: Database, database_url: str, vault: Vault, ada_id: str
) -> None:
    """A caller mistaken for another would spend their money, again and again."""
    with pytest.raises(Exception, match="row-level security"):
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await schedule_store.create_schedule(
                tx,
                vault,
                ada_id,
                ids.new_id(),
                SCHEDULE_REQUEST,
                next_at=await schedule_store.read_database_time(tx) + HOUR,
                secrets={},
            )
