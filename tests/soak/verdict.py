"""The judgement at the end of a soak: each promise, against the rows, the Hub and all files."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2

from tests.e2e.secret_canary import Canary
from tests.soak.deployment import Deployment
from tests.soak.disturbances import DisturbanceLog
from tests.soak.load import WAITER_COUNT, Ledger
from tests.soak.samples import Samples
from tests.support.database.invariants import COUNTER_MISMATCHES
from tests.support.polling import HTTP_TIMEOUT_SECONDS

_SETTLE_SECONDS: Final = 240.0
_POLL_SECONDS: Final = 1.0
_ALIVE_STAGES: Final = {"SCHEDULING", "RUNNING"}
_MAX_RESIDENT_GROWTH: Final = 1.25
"""Of memory, from the second quarter to the last one; files and threads may gain a few."""
_MAX_RESIDENT_SLACK_BYTES: Final = 24 * 1024 * 1024
_MAX_NEW_FILES: Final = 20 + WAITER_COUNT
"""Those who wait in the second half have a connection each."""
_MAX_NEW_THREADS: Final = 8
_MAX_CONNECTIONS: Final = 10 * 6
"""The pools of all processes at their largest, and one migration."""
_UNSURE_REASONS: Final = {"launch_unconfirmed", "outcome_unknown", "dependency_failed"}
"""What may become of work whose worker was killed at the wrong moment; it is said, never hidden."""
_EXPECTED_STATES: Final = {
    "succeeds": {"succeeded"},
    "fails": {"failed"},
    "is cancelled": {"cancelled", "failed"},
    "follows": {"succeeded"},
    "asks a model": {"succeeded"},
    "is a batch": {"succeeded"},
}
_UNFINISHED: Final = """
SELECT (SELECT count(*) FROM job WHERE finished_at IS NULL)
     + (SELECT count(*) FROM remote_run WHERE due_at IS NOT NULL)
     + (SELECT count(*) FROM remote_run WHERE state IN ('posting', 'unknown', 'bound')) AS rows
"""
_OVERSPENT: Final = """
SELECT format('workspace %s: %s held, %s spent, of %s', name, held_micro_usd, spent_micro_usd,
              budget_micro_usd) AS text
  FROM workspace
 WHERE held_micro_usd + spent_micro_usd > budget_micro_usd
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out of a soak."""

    violations: list[str]
    states: Counter[str]
    reasons: Counter[str]
    hub_jobs: int
    surplus: int
    settle_seconds: float
    checks: list[tuple[str, str]]
    """Each promise, and what was compared."""


async def wait_until_settled(deployment: Deployment) -> float:
    """Wait until nothing is owed any more; return how many seconds that took."""
    started_at = time.monotonic()
    while time.monotonic() - started_at < _SETTLE_SECONDS:
        connection = await asyncpg.connect(deployment.database_url)
        try:
            if await connection.fetchval(_UNFINISHED) == 0:
                break
        finally:
            await connection.close()
        await asyncio.sleep(_POLL_SECONDS)  # between two looks at what the workers do
    return time.monotonic() - started_at


async def judge(
    deployment: Deployment,
    ledger: Ledger,
    log: DisturbanceLog,
    samples: Samples,
    canary: Canary,
    *,
    settle_seconds: float,
    waiters_since: float,
) -> Verdict:
    """Compare what callers were answered with the rows, and the rows with the Hub."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        jobs = {row["id"]: row for row in await connection.fetch("SELECT * FROM job")}
        runs = await connection.fetch("SELECT * FROM remote_run")
        unowned = await connection.fetch("SELECT * FROM v_unowned")
        counters = await connection.fetch(COUNTER_MISMATCHES)
        overspent = await connection.fetch(_OVERSPENT)
    finally:
        await connection.close()
    hub_jobs = [job for user in deployment.users for job in await _list_hub_jobs(deployment, user)]
    leaks = [
        *await canary.find_in_database(deployment.database_url),
        *await canary.find_in_valkey(deployment.redis_url),
        *canary.find_in_files(
            deployment.folder, excluding=deployment.folder / "hub" / "users.json"
        ),
    ]
    violations = [
        *ledger.violations,
        *log.violations,
        *check_handles(ledger, jobs),
        *_check_hub(hub_jobs, jobs, runs),
        *(f"nobody owns {dict(row)}" for row in unowned),
        *(str(row["mismatch"]) for row in counters),
        *(str(row["text"]) for row in overspent),
        *(f"a secret or token in {place}" for place in sorted(set(leaks))),
        *_check_growth(samples),
        *_check_waiting(samples, waiters_since),
    ]
    return Verdict(
        violations=violations,
        states=Counter(str(job["state"]) for job in jobs.values()),
        reasons=Counter(str(job["reason"]) for job in jobs.values() if job["reason"]),
        hub_jobs=len(hub_jobs),
        surplus=sum(run["origin"] == "surplus" for run in runs),
        settle_seconds=settle_seconds,
        checks=_describe_checks(ledger, jobs, hub_jobs),
    )


def check_handles(ledger: Ledger, jobs: dict[UUID, asyncpg.Record]) -> list[str]:
    """Say which answered handle has no row, or has come to what it was not meant for."""
    wrong = [
        f"lost: {job_id}, which {name}"
        for job_id, name in ledger.handles.items()
        if job_id not in jobs
    ]
    for job_id, job in jobs.items():
        state, reason = job["state"], job["reason"]
        name = ledger.handles.get(job_id)
        if name is None:
            wrong.append(f"nobody was answered {job_id}")
        elif job["finished_at"] is None:
            wrong.append(f"never over: {job_id}, which {name}, is {state}")
        elif job_id in ledger.cancelled and state != "cancelled" and reason not in _UNSURE_REASONS:
            wrong.append(f"a cancel was undone: {job_id} is {state} ({reason})")
        elif state not in _EXPECTED_STATES[name] and reason not in _UNSURE_REASONS:
            wrong.append(f"{job_id}, which {name}, is {state} ({reason}): {job['message']}")
    return wrong


def _check_hub(
    hub_jobs: list[dict[str, Any]], jobs: dict[UUID, asyncpg.Record], runs: list[asyncpg.Record]
) -> list[str]:
    wrong = [f"alive at the Hub: {job['id']}" for job in hub_jobs if _is_alive(job)]
    known = {run["remote_id"] for run in runs if run["remote_id"]}
    given_up = {str(run["id"]) for run in runs if run["state"] in {"absent", "rejected"}}
    by_run: Counter[str] = Counter(job["environment"]["HOLDFAST_RUN"] for job in hub_jobs)
    wrong += [f"run {run} was created {count} times" for run, count in by_run.items() if count > 1]
    wrong += [
        f"nobody recorded {job['id']}"
        for job in hub_jobs
        if job["id"] not in known and job["environment"]["HOLDFAST_RUN"] not in given_up
    ]
    completed: dict[str, int] = defaultdict(int)
    for job in hub_jobs:
        completed[job["labels"]["holdfast-job"]] += job["status"]["stage"] == "COMPLETED"
    wrong += [
        f"{handle} completed {count} times" for handle, count in completed.items() if count > 2
    ]
    stages = {job["id"]: job["status"]["stage"] for job in hub_jobs}
    for run in runs:
        is_decisive = run["origin"] == "ours" and run["state"] == "ended" and run["remote_id"]
        if is_decisive and jobs[run["job_id"]]["state"] == "succeeded":
            stage = stages.get(run["remote_id"])
            if stage != "COMPLETED":
                wrong.append(f"succeeded, says the row; {stage}, says the Hub: {run['remote_id']}")
    return wrong


def _check_growth(samples: Samples) -> list[str]:
    wrong: list[str] = []
    for name in samples.programs:
        before, after = samples.growth(name, "resident_bytes")
        if after > before * _MAX_RESIDENT_GROWTH + _MAX_RESIDENT_SLACK_BYTES:
            wrong.append(f"{name} grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB")
        for measure, slack in (("open_files", _MAX_NEW_FILES), ("threads", _MAX_NEW_THREADS)):
            before, after = samples.growth(name, measure)
            if after > before + slack:
                wrong.append(f"{name} had {before:.0f} {measure} and then {after:.0f}")
    most = max((connections for *_, connections in samples.database), default=0)
    if most > _MAX_CONNECTIONS:
        wrong.append(f"there were {most} connections to the database")
    return wrong


def _check_waiting(samples: Samples, waiters_since: float) -> list[str]:
    """Compare the requests to the Hub with few who wait, and with many."""
    end = samples.hub_requests[-1][0] if samples.hub_requests else 0.0
    few = samples.request_rate(waiters_since / 3, waiters_since)
    many = samples.request_rate(waiters_since, end)
    if few and many > 2 * few:
        return [
            f"requests to the Hub went from {few:.1f} to {many:.1f} per second with the waiters"
        ]
    return []


def _describe_checks(
    ledger: Ledger, jobs: dict[UUID, asyncpg.Record], hub_jobs: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    return [
        ("I1", f"{len(ledger.handles)} answered handles, {len(jobs)} rows, each in a final state"),
        ("I2", f"{len(hub_jobs)} jobs at the Hub, none of them alive, at most one of each run"),
        ("I3", f"{len(ledger.handles)} launches were called twice with one key"),
        ("I4", f"{len(ledger.cancelled)} cancels, none undone, nothing alive behind one"),
        ("I5", "every answer for a job of somebody else equals that for an unknown one"),
        ("I6", f"no budget passed; {ledger.refusals['BudgetExceeded']} launches refused for one"),
        ("I7", "no secret and no token in a row, in Redis, in a log or any other file"),
        ("I8", "all of that though Redis was emptied and restarted"),
        ("I9", "the rate of requests to the Hub with 100 more who wait, against without"),
    ]


def _is_alive(job: dict[str, Any]) -> bool:
    return job["status"]["stage"] in _ALIVE_STAGES


async def _list_hub_jobs(deployment: Deployment, user: Any) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    url: str | None = f"{deployment.hub_url}/api/jobs/{user.name}"
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {user.tokens[-1].token}"}, timeout=HTTP_TIMEOUT_SECONDS
    ) as http:
        while url is not None:
            page = (await http.get(url)).raise_for_status()
            jobs += page.json()
            url = page.links.get("next", {}).get("url")
    return jobs
