"""What a supervisor is told, and what works while a part is missing."""

import httpx2
import pytest
from dirty_equals import IsInt

from schema.db import revisions
from schema.db.database import Database
from tests.support.factories import StartService
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
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.get(f"{url}/health/{what}")


@pytest.fixture
async def outdated_database(database: Database) -> str:
    """A database that somebody forgot to migrate."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = 'past'")
    return "past"


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
    assert f"revision {outdated_database} and this service needs" in response.json()["error"]
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
                "UPDATE alembic_version SET version_num = $1", revisions.head_revision()
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
