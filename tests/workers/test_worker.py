"""A worker tells whoever waits of the moves it makes."""

import base64
import os
from collections.abc import Callable, Mapping
from uuid import UUID

import anyio
import pytest
from structlog.testing import capture_logs

from schema.accounts import operator_actions
from schema.accounts.vault_keys import OtherVaultKey
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.messaging import change_notifications
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.polling import eventually
from workers.worker import build_worker


async def test_what_a_worker_commits_is_heard_where_it_is_waited_for(
    make_settings: Callable[..., Settings], valkey_url: str, make_job: JobFactory, ada_id: str
) -> None:
    """Built as it runs: nobody has to tell of a move by hand."""
    heard: dict[UUID, int] = {}

    def hear(moved: Mapping[UUID, int]) -> None:
        heard.update(moved)

    async def cancel_another() -> bool:
        # The first may have been told before anybody listened.
        job = await make_job()
        async with worker.database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
        await anyio.sleep(0.1)  # before another is cancelled
        return job.id in heard

    async with anyio.create_task_group() as listener:
        listener.start_soon(change_notifications.listen_for_changes, valkey_url, hear)
        async with build_worker(make_settings()) as worker:
            await eventually(cancel_another, bool)
        listener.cancel_scope.cancel()


async def test_a_worker_with_a_new_key_says_that_it_cannot_open_what_is_stored(
    make_settings: Callable[..., Settings], ada_id: str
) -> None:
    """It starts all the same: whoever calls again seals their token with the new key."""
    del ada_id  # whose token is stored
    other_ring = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    with capture_logs() as entries:
        async with build_worker(make_settings()):
            pass
        assert entries == []
        async with build_worker(make_settings(vault_keys=other_ring)):
            pass

    assert [entry["event"] for entry in entries] == ["vault.key_missing"]
    assert "Put it back" in entries[0]["remedy"]


async def test_a_worker_with_a_new_key_under_an_old_id_does_not_start(
    make_settings: Callable[..., Settings], vault_keys: str
) -> None:
    """It would take every token for lost, and hold the jobs of everybody."""
    same_id = f"1:{base64.b64encode(os.urandom(32)).decode()}"
    async with build_worker(make_settings()):
        pass

    with pytest.raises(OtherVaultKey, match="Key 1 of HOLDFAST_VAULT_KEYS differs"):
        async with build_worker(make_settings(vault_keys=same_id)):
            pass
    second = f"2:{base64.b64encode(os.urandom(32)).decode()}"
    with pytest.raises(OtherVaultKey):  # in any place of the ring
        async with build_worker(make_settings(vault_keys=f"{second},{same_id}")):
            pass
    async with build_worker(make_settings(vault_keys=f"{second},{vault_keys}")):
        pass


async def test_a_worker_brings_the_limits_of_its_settings_into_force(
    make_settings: Callable[..., Settings], database: Database, ada_id: str
) -> None:
    """All processes count by those of the worker that started last."""

    async def read_limits() -> tuple[int, dict[str, int]]:
        async with database.transaction() as tx:
            [ada] = await operator_actions.find_subjects(tx, ada_id)
        return ada.max_active, ada.max_active_by_kind

    before = await read_limits()
    async with build_worker(make_settings(max_active=7, max_active_batch=2)):
        strict = await read_limits()
    async with build_worker(make_settings()):
        restored = await read_limits()

    assert (before, strict, restored) == ((100, {}), (7, {"batch": 2}), (100, {}))
