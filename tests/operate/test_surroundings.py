"""A Hub whose clock is off, a network that is IPv6 only, and names that do not resolve."""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import anyio.to_thread
import pytest

from schema.db.database import Database
from tests.operate.deployments import PATIENCE, Deployment
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.mcp.client import post_message
from tests.support.polling import eventually
from tests.support.relay import relay_to

HOURS: Final = timedelta(hours=5)
READ_JOBS: Final = """
SELECT job.state, job.reason, job.message, cost.spent_micro_usd, cost.uncounted_micro_usd,
       cost.price_micro_usd, cost.held_micro_usd,
       job.created_at <= job.started_at AND job.started_at <= job.finished_at AS is_in_order,
       job.finished_at <= now() AS is_past
  FROM job
  JOIN job_cost AS cost ON cost.job_id = job.id
 ORDER BY job.created_at
"""


async def call(url: str, hub: HubEmulatorProcess, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool as Alice; it must succeed."""
    answer = await post_message(
        url,
        "tools/call",
        {"name": tool, "arguments": arguments},
        authorization=f"Bearer {hub.api().token}",
    )
    assert "result" in answer.json(), answer.text
    result = answer.json()["result"]
    assert not result.get("isError"), result
    view: dict[str, Any] = result["structuredContent"]
    return view


async def launch(url: str, hub: HubEmulatorProcess, *command: str) -> str:
    """Launch a job, and return its handle."""
    view = await call(url, hub, "launch_job", image="python:3.12", command=command)
    return str(view["job_id"])


async def read_jobs(database: Database) -> list[Mapping[str, Any]]:
    """Return what the database says of each job."""
    async with database.transaction() as tx:
        return list(await tx.fetch(READ_JOBS))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("hub", [HOURS, -HOURS], indirect=True, ids=["ahead", "behind"])
async def test_a_hub_whose_clock_is_hours_off_fails_no_job_and_charges_none_for_it(
    deployment: Deployment, hub: HubEmulatorProcess, database: Database
) -> None:
    """All its times are hours off, and its Date header: only the spans between them count."""
    url = await deployment.start_service()
    deployment.start_worker()

    finished = await launch(url, hub, "sh", "-c", "echo done; sleep 1")
    cancelled = await launch(url, hub, "sleep", "600")
    await eventually(
        lambda: read_jobs(database),
        lambda jobs: jobs[1]["state"] == "running",
        timeout=PATIENCE,
    )
    await call(url, hub, "cancel_job", job_id=cancelled)
    jobs = await eventually(
        lambda: read_jobs(database),
        lambda jobs: all(job["spent_micro_usd"] is not None for job in jobs),
        timeout=PATIENCE,
    )
    log = await call(url, hub, "job_logs", job_id=finished)

    assert [(job["state"], job["reason"]) for job in jobs] == [
        ("succeeded", None),
        ("cancelled", None),
    ]
    for job in jobs:
        assert job["is_in_order"] in {True, None}  # None: it was cancelled before it started
        assert job["is_past"]
        assert job["spent_micro_usd"] <= 3 * job["price_micro_usd"]  # of a minute
        assert (job["uncounted_micro_usd"], job["held_micro_usd"]) == (0, 0)
    assert "done" in [line["text"] for line in log["lines"]]


@pytest.mark.timeout(300)
async def test_a_job_runs_where_every_address_is_of_ipv6(
    deployment: Deployment, hub: HubEmulatorProcess
) -> None:
    """Postgres, Redis and the Hub are at [::1], and the service listens there."""
    async with AsyncExitStack() as relays:
        for variable in ("DATABASE_URL", "REDIS_URL", "HUB_URL", "ROUTER_URL"):
            parts = urlsplit(deployment.environment[f"HOLDFAST_{variable}"])
            assert parts.port is not None
            port = await relays.enter_async_context(relay_to(parts.port, host="::1"))
            login = parts.netloc.rpartition("@")[0]
            netloc = f"{login}@[::1]:{port}" if login else f"[::1]:{port}"
            deployment.environment[f"HOLDFAST_{variable}"] = parts._replace(netloc=netloc).geturl()
        url = await deployment.start_service(host="::1")
        deployment.start_worker()

        handle = await launch(url, hub, "echo", "done")
        view = await eventually(
            lambda: call(url, hub, "job_status", job_ids=[handle]),
            lambda answer: answer["jobs"][0]["finished_at"] is not None,
            timeout=PATIENCE,
        )
        doctor = await anyio.to_thread.run_sync(deployment.run, "doctor")

    assert url.startswith("http://[::1]:")
    assert view["jobs"][0]["state"] == "succeeded"
    assert doctor.returncode == 0, doctor.stdout


@pytest.mark.timeout(300)
async def test_jobs_wait_while_the_name_of_the_hub_does_not_resolve(
    deployment: Deployment, hub: HubEmulatorProcess, database: Database
) -> None:
    """A worker without DNS says so once a minute; one that has it carries the jobs out."""
    url = await deployment.start_service()
    right = deployment.environment["HOLDFAST_HUB_URL"]
    deployment.environment["HOLDFAST_HUB_URL"] = "http://no-host.invalid"
    lost = deployment.start_worker("lost-worker")
    handle = await launch(url, hub, "echo", "done")

    async def count_tries() -> int:
        async with database.transaction() as tx:
            return int(await tx.fetchval("SELECT sum(tries) FROM job") or 0)

    await eventually(count_tries, lambda tries: tries >= 3, timeout=PATIENCE)
    while_lost = (await read_jobs(database))[0]
    lost.terminate()
    deployment.environment["HOLDFAST_HUB_URL"] = right
    deployment.start_worker()
    view = await eventually(
        lambda: call(url, hub, "job_status", job_ids=[handle]),
        lambda answer: answer["jobs"][0]["finished_at"] is not None,
        timeout=PATIENCE,
    )

    assert while_lost["state"] in {"queued", "launching"}
    assert view["jobs"][0]["state"] == "succeeded"
    lines = [
        json.loads(line)
        for line in deployment.read_log("lost-worker").splitlines()
        if line.startswith("{")
    ]
    failures = [line for line in lines if line["event"] == "dependency.failed"]
    assert [line["dependency"] for line in failures] == ["hub"]
    assert failures[0]["kind"] == "ConnectError"
    assert not [line for line in lines if line["level"] == "error" and line not in failures]
