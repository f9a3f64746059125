"""What a supervisor is told, and what works while a part is missing."""

import base64
import os
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from dirty_equals import IsFloat, IsInt

from schema.accounts.vault import Vault
from schema.db import revisions
from schema.db.database import Database
from schema.jobs.monitoring import heartbeats
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    read_refusal,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS


async def health(url: str, what: str = "ready") -> httpx2.Response:
    """Ask for the health of a service."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.get(f"{url}/health/{what}")


@pytest.fixture
async def outdated_database(database: Database) -> str:
    """A database that somebody forgot to migrate."""
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM alembic_version")
    return "none"


async def test_a_complete_service_is_ready(service_url: str, database_url: str) -> None:
    """Ready counts the workers it sees, since without one nothing is carried out."""
    application = "holdfast-worker somewhere:1"
    async with Database(database_url, application_name=application) as worker, worker.transaction():
        response = await health(service_url)

    assert response.json() == {
        "status": "ready",
        "revision": revisions.head_revision(),
        "redis": True,
        "workers": 1,
        "process": IsInt(gt=0),
        "heartbeats": [],
        "key_ring": True,
    }


async def test_without_redis_a_service_is_degraded_but_serves(start_service: StartService) -> None:
    """A load balancer must not take a service away because Redis is lost."""
    with start_service(HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as url:
        response = await health(url)

    assert (response.status_code, response.json()["status"]) == (200, "degraded")


async def test_without_a_database_a_service_is_alive_but_not_ready(
    start_service: StartService,
) -> None:
    """Restarting the process would not bring the database back."""
    with start_service(HOLDFAST_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as url:
        alive, ready = await health(url, "live"), await health(url)
        async with open_mcp_client(url) as client:
            tools = (await client.list_tools()).tools
        answer = await call_tool(url, "launch_job", image="python:3.12", command="true")

    assert (alive.status_code, ready.status_code) == (200, 503)
    assert tools
    assert read_refusal(answer)["code"] == "Unavailable"


async def test_on_the_wrong_revision_nothing_is_served_and_the_reason_is_said(
    start_service: StartService, outdated_database: str
) -> None:
    """Old code on a new database, or the reverse, would write what the other cannot read."""
    with start_service() as url:
        response = await health(url)
        answer = await call_tool(url, "list_jobs")

    assert response.status_code == 503
    assert f"revision {outdated_database} and this release needs" in response.json()["error"]
    assert read_refusal(answer)["code"] == "Unavailable"
    assert "holdfast migrate" in answer_text(answer)


async def test_a_service_serves_as_soon_as_its_database_is_migrated(
    start_service: StartService, database: Database, outdated_database: str
) -> None:
    """Starting things in the wrong order needs no second start."""
    with start_service() as url:
        before = await health(url)
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO alembic_version (version_num) VALUES ($1)", revisions.head_revision()
            )
        after = await health(url)
        listed = await call_for_result(url, "list_jobs", caller_token="hf_bob")

    assert (before.status_code, after.status_code) == (503, 200)
    assert listed["jobs"] == []


async def test_what_is_missing_is_named_with_its_cause(start_service: StartService) -> None:
    """Whoever is paged reads the health page first; it names no host and no login."""
    url = "postgresql://ada:canary@no-host.invalid/holdfast"
    with start_service(
        HOLDFAST_DATABASE_URL=url, HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0"
    ) as service_url:
        without_database = await health(service_url)
    with start_service(HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as service_url:
        without_redis = await health(service_url)

    assert "has no address" in without_database.json()["cause"]
    assert "Nothing listens" in without_redis.json()["cause"]
    for answer in (without_database, without_redis):
        assert "no-host" not in answer.text
        assert "canary" not in answer.text


async def beat(database: Database, vault: Vault, **overrides: Any) -> None:
    """Write the heartbeat of a worker."""
    heartbeat: dict[str, Any] = {
        "name": "secret-host:1",
        "version": "0.1.0",
        "key_marks": vault.key_marks,
        "attempts": 0,
        "since_sweep": timedelta(seconds=1),
        "last_error": ("database: secret cause", timedelta(0)),
        "is_first": True,
    }
    async with database.transaction() as tx:
        await heartbeats.record_heartbeat(tx, **heartbeat | overrides)


async def test_workers_are_shown_with_release_and_age_and_without_their_names(
    service_url: str, database: Database, vault: Vault
) -> None:
    """During an upgrade both releases are there; where they run is not for everybody."""
    await beat(database, vault)
    await beat(
        database, vault, name="secret-host:2", version="0.0.9", since_sweep=timedelta(minutes=2)
    )

    response = await health(service_url)

    assert sorted(response.json()["heartbeats"], key=str) == [
        {"version": "0.0.9", "age_seconds": IsFloat(ge=0), "works": False},
        {"version": "0.1.0", "age_seconds": IsFloat(ge=0), "works": True},
    ]
    assert "secret" not in response.text


async def test_a_worker_that_cannot_open_what_we_seal_degrades(
    service_url: str, database: Database, vault: Vault
) -> None:
    """The same id with another key is found before a job fails for want of its secrets."""
    other_vault = Vault.from_key_ring(f"1:{base64.b64encode(os.urandom(32)).decode()}")
    await beat(database, vault, key_marks=other_vault.key_marks)

    response = await health(service_url)

    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["key_ring"] is False


async def test_a_database_that_takes_no_writes_is_not_ready(
    start_service: StartService, database_url: str
) -> None:
    """A replica answers every question, and no call could launch a thing."""
    async with Database(database_url, application_name="tests") as database:
        async with database.transaction() as tx:
            name = await tx.fetchval("SELECT current_database()")
            await tx.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        with start_service() as service_url:
            response = await health(service_url)

    assert response.status_code == 503
    assert "takes no writes" in response.json()["cause"]
