"""The comparison of our rows with the Hub's own listing, and with what we promise of both."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from schema.billing.budgets import Rate
from service.local.hub_emulator.users import LocalUser
from tests.crash.crash_matrix import CrashCase
from tests.crash.faulty_hub import JUDGE_HEADER, Fault
from tests.support.database.invariants import COUNTER_MISMATCHES
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS

JOB_RATE: Final = Rate(price_micro_usd=167, timeout=timedelta(minutes=30))
"""The price that a job of a case is held for."""
_ALIVE_STAGES: Final = {"SCHEDULING", "RUNNING"}
_FINAL_STATES: Final = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """Numbers of handles and of jobs at the end of a case."""

    handles: int
    created: int
    """Jobs the Hub has ever made, by its own listing."""
    surplus: int
    states: dict[str, int]


NO_COUNTS: Final = LedgerCounts(0, 0, 0, {})


async def audit_ledger(
    database_url: str,
    hub_url: str,
    user: LocalUser,
    handles: dict[UUID, str],
    cancelled: set[UUID],
    case: CrashCase,
) -> tuple[LedgerCounts, list[str]]:
    """Compare the rows with the Hub; return the counts, and each promise that was broken."""
    ledger = await list_hub_jobs(hub_url, user)
    connection = await asyncpg.connect(database_url)
    try:
        jobs = {row["id"]: row for row in await connection.fetch("SELECT * FROM job")}
        runs = await connection.fetch("SELECT * FROM remote_run")
        events = await connection.fetch("SELECT * FROM job_event ORDER BY job_id, version")
        unowned = await connection.fetch("SELECT * FROM v_unowned")
        counters = await connection.fetch(COUNTER_MISMATCHES)
    finally:
        await connection.close()
    wrong = [
        *_check_handles(handles, jobs, cancelled),
        *_check_events(jobs, events),
        *_check_hub_jobs(ledger, jobs, runs, case),
        *(f"unowned: {dict(row)}" for row in unowned),
        *(str(row["mismatch"]) for row in counters),
    ]
    surplus = sum(run["origin"] == "surplus" for run in runs)
    states = Counter(str(job["state"]) for job in jobs.values())
    return LedgerCounts(len(handles), len(ledger), surplus, dict(states)), wrong


async def list_hub_jobs(hub: str, user: LocalUser) -> list[dict[str, Any]]:
    """Return every job that the Hub has ever made for the user, whether or not we know it."""
    jobs: list[dict[str, Any]] = []
    url: str | None = f"{hub}/api/jobs/alice"
    async with AsyncHttpClient(
        headers={"authorization": f"Bearer {user.token}", JUDGE_HEADER: "1"},
        timeout=HTTP_TIMEOUT_SECONDS,
    ) as http:
        while url is not None:
            page = await http.get(url)
            jobs += page.json()
            url = page.links.get("next", {}).get("url")
    return jobs


def _check_handles(
    handles: dict[UUID, str], jobs: dict[UUID, asyncpg.Record], cancelled: set[UUID]
) -> list[str]:
    wrong = [f"lost: {name}" for job_id, name in handles.items() if job_id not in jobs]
    wrong += [f"nobody was told of {job_id}" for job_id in jobs if job_id not in handles]
    for job_id, job in jobs.items():
        state, name = job["state"], handles.get(job_id, "?")
        if state not in _FINAL_STATES:
            wrong.append(f"never over: {name} is {state}")
        if job_id in cancelled and state != "cancelled":
            wrong.append(f"a cancel was undone: {name} is {state}")
        if state == "succeeded" and name not in {"succeeds", "asks a model"}:
            wrong.append(f"cannot have succeeded: {name}")
    return wrong


def _check_events(jobs: dict[UUID, asyncpg.Record], events: list[asyncpg.Record]) -> list[str]:
    events_by_job: dict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for event in events:
        events_by_job[event["job_id"]].append(event)
    wrong: list[str] = []
    for job_id, job in jobs.items():
        history = events_by_job[job_id]
        if [event["version"] for event in history] != list(range(1, job["version"] + 1)):
            wrong.append(f"a gap in the history of {job_id}")
        elif history[-1]["state"] != job["state"]:
            wrong.append(f"the history of {job_id} ends elsewhere")
    return wrong


def _check_hub_jobs(
    ledger: list[dict[str, Any]],
    jobs: dict[UUID, asyncpg.Record],
    runs: list[asyncpg.Record],
    case: CrashCase,
) -> list[str]:
    known = {run["remote_id"]: run for run in runs if run["remote_id"] is not None}
    wrong = [f"alive: {_describe_job(job)}" for job in ledger if is_alive(job)]
    # One that came and went before a listing could show it is over, and its run was given up.
    given_up = {str(run["id"]) for run in runs if run["state"] in {"absent", "rejected"}}
    repeated = case.fault is Fault.CREATE_REPEATED
    wrong += [
        f"unrecorded: {_describe_job(job)}"
        for job in ledger
        if job["id"] not in known and not (repeated or _read_run_id(job) in given_up)
    ]
    created: Counter[str] = Counter(map(_read_run_id, ledger))
    allowed = 2 if repeated else 1
    wrong += [f"run {run} was created {n} times" for run, n in created.items() if n > allowed]
    by_job: Counter[str] = Counter(job["labels"]["holdfast-job"] for job in ledger)
    most = allowed * (2 if case.unknown == "relaunch" else 1)
    wrong += [f"{job} was created {n} times" for job, n in by_job.items() if n > most]
    stages = {job["id"]: job["status"]["stage"] for job in ledger}
    for run in runs:
        job = jobs[run["job_id"]]
        stage = stages.get(run["remote_id"])
        if run["remote_id"] is not None and stage is None:
            wrong.append(f"bound to what the Hub never had: {run['remote_id']}")
        ours = run["origin"] == "ours" and run["state"] == "ended" and run["kind"] == "hub_job"
        if ours and job["state"] == "succeeded" and stage != "COMPLETED":
            wrong.append(f"succeeded, says the row; {stage}, says the Hub")
    return wrong


def is_alive(job: dict[str, Any]) -> bool:
    """Tell whether a job at the Hub may still cost money."""
    return job["status"]["stage"] in _ALIVE_STAGES


def _read_run_id(job: dict[str, Any]) -> str:
    return str(job["environment"]["HOLDFAST_RUN"])


def _describe_job(job: dict[str, Any]) -> str:
    return json.dumps({name: job[name] for name in ("id", "command", "labels", "status")})
