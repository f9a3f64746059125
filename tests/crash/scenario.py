"""One scenario: jobs are carried out while a process is killed at one place, under one fault.

a database and a Hub of its own ─▶ jobs, cancels ─▶ worker, killed at each visit of the place,
and started again ─▶ quiet ─▶ late arrivals ─▶ quiet again ─▶ `tests.crash.ledger`
"""

import asyncio
import base64
import json
import os
import random
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import httpx2

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.common.errors import Unavailable
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from service.local.hub_emulator.users import LocalUser, find_user, load_users
from service.local.ports import find_free_port
from service.local.servers.postgres import Postgres
from tests.crash import schedule_scenario
from tests.crash.crash_matrix import CrashCase
from tests.crash.faulty_hub import ARRIVALS_PATH, CALM_PATH, NO_ARRIVALS, Arrivals, Fault
from tests.crash.ledger import (
    JOB_RATE,
    NO_COUNTS,
    LedgerCounts,
    audit_ledger,
    is_alive,
    list_hub_jobs,
)
from tests.crash.processes import ForkedProcess, ForkServer
from tests.support.http_clients import AsyncHttpClient

LEASE_SECONDS: Final = 1.0
MAX_KILLS: Final = 2  # times a scenario ends the process; after that it runs undisturbed
_TIMEOUT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_SETTINGS: Final = {
    "HOLDFAST_LEASE": f"{LEASE_SECONDS}s",
    "HOLDFAST_POST_TIMEOUT": "0.7s",
    "HOLDFAST_SETTLE": "2s",
    "HOLDFAST_SWEEP": "0.2s",
    "HOLDFAST_OBSERVE_MIN": "0.3s",
    "HOLDFAST_OBSERVE_MAX": "1s",
    **dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"), "1"),
}
SHORT_JOB_SPEC: Final[dict[str, Any]] = {
    "image": "python:3.12",
    "command": ["true"],
    "flavor": "cpu-basic",
    "timeout": 60,
}
_LONG_JOB_SPEC: Final = SHORT_JOB_SPEC | {"command": ["sleep", "600"]}
_CHAT_SPEC: Final[dict[str, Any]] = {
    "task": "chat-completion",
    "model": "local/echo",
    "inputs": [{"role": "user", "content": "hello"}],
    "parameters": {},
    "provider": None,
    "timeout": 5,
}
WORKLOAD: Final[dict[str, tuple[JobKind, dict[str, Any]]]] = {
    "succeeds": (JobKind.HUB_JOB, SHORT_JOB_SPEC),
    "fails": (JobKind.HUB_JOB, SHORT_JOB_SPEC | {"command": ["sh", "-c", "echo so; exit 3"]}),
    "is refused": (JobKind.HUB_JOB, SHORT_JOB_SPEC | {"flavor": "no-such"}),
    "is cancelled at once": (JobKind.HUB_JOB, _LONG_JOB_SPEC),
    "is cancelled while it runs": (JobKind.HUB_JOB, _LONG_JOB_SPEC),
    "asks a model": (JobKind.INFERENCE, _CHAT_SPEC),
}


@dataclass(slots=True)
class ScenarioResult:
    """The result of a case."""

    case: CrashCase
    reached: int
    """How often a process was killed at the failpoint."""
    seconds: float
    counts: LedgerCounts
    violations: list[str] = field(default_factory=list[str])
    listing_delays: list[float] = field(default_factory=list[float])
    """Seconds from each late arrival until a worker had listed it."""
    settling_seconds: float = 0.0
    """Seconds from the last late arrival until nothing was owed any more."""


@dataclass(slots=True)
class ScenarioContext:
    """The database, the Hub and the processes of one case."""

    case: CrashCase
    fork_server: ForkServer
    postgres: Postgres
    database: Database
    database_url: str
    hub_url: str
    user: LocalUser
    environment: dict[str, str]
    valkey_url: str
    kill_count: int = 0
    handles: dict[UUID, str] = field(default_factory=dict[UUID, str])
    cancel_requested: set[UUID] = field(default_factory=set[UUID])
    cancelled: set[UUID] = field(default_factory=set[UUID])
    violations: list[str] = field(default_factory=list[str])
    arrivals: Arrivals = NO_ARRIVALS
    settling_seconds: float = 0.0
    zombies: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])


async def run_scenario(
    case: CrashCase,
    fork_server: ForkServer,
    postgres: Postgres,
    template_url: str,
    valkey_url: str,
) -> ScenarioResult:
    """Run one case, and check the rows."""
    started = time.monotonic()
    reached, counts, violations = 0, NO_COUNTS, list[str]()
    arrivals, settling_seconds = NO_ARRIVALS, 0.0
    try:
        async with open_context(case, fork_server, postgres, template_url, valkey_url) as stage:
            await (_run_killing_service if case.in_service else _run_killing_worker)(stage)
            reached = stage.kill_count
            counts, violations = await audit_ledger(
                stage.database_url, stage.hub_url, stage.user, stage.handles, stage.cancelled, case
            )
            violations += stage.violations
            arrivals, settling_seconds = stage.arrivals, stage.settling_seconds
    except Exception as error:  # noqa: BLE001  # reported with the other cases, which go on
        violations.append(f"the case broke off: {error!r}")
    seconds = time.monotonic() - started
    return ScenarioResult(
        *(case, reached, seconds, counts, violations, arrivals.listing_delays, settling_seconds)
    )


@asynccontextmanager
async def open_context(
    case: CrashCase,
    fork_server: ForkServer,
    postgres: Postgres,
    template_url: str,
    valkey_url: str,
) -> AsyncGenerator[ScenarioContext]:
    """Make a database and a Hub for one case."""
    name = f"case_{os.urandom(6).hex()}"
    await execute_as_admin(
        template_url, f'CREATE DATABASE {name} TEMPLATE "{urlsplit(template_url).path[1:]}"'
    )
    url = urlunsplit(urlsplit(template_url)._replace(path=f"/{name}"))
    port = find_free_port()
    folder = fork_server.folder / "hub"
    user = find_user(load_users(folder), "alice")
    hub = await fork_server.start("hub", str(folder), port, case.fault.value)
    address = f"http://127.0.0.1:{port}"
    redis = (
        f"redis://127.0.0.1:{find_free_port()}/0" if case.fault is Fault.REDIS_GONE else valkey_url
    )
    environment = _SETTINGS | {
        "HOLDFAST_DATABASE_URL": url,
        "HOLDFAST_REDIS_URL": redis,
        "HOLDFAST_HUB_URL": address,
        "HOLDFAST_ROUTER_URL": address,
        "HOLDFAST_VAULT_KEYS": f"1:{base64.b64encode(os.urandom(32)).decode()}",
        "HOLDFAST_UNKNOWN": case.unknown,
    }
    try:
        async with Database(url, application_name="crash") as database:
            yield ScenarioContext(
                case, fork_server, postgres, database, url, address, user, environment, redis
            )
    finally:
        # Asked to stop, so that its jobs end with it.
        hub.send_signal(signal.SIGTERM)
        await hub.exit_code
        await execute_as_admin(template_url, f"DROP DATABASE {name} WITH (FORCE)")


async def execute_as_admin(url: str, statement: str) -> None:
    """Run a statement that cannot be in a transaction, once the server is back."""
    while True:
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(urlunsplit(urlsplit(url)._replace(path="/postgres")))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()
            return
        await asyncio.sleep(_POLL_SECONDS)  # between two looks at what others do


async def _run_killing_worker(stage: ScenarioContext) -> None:
    await lend_token(stage)
    for name, (kind, spec) in WORKLOAD.items():
        stage.handles[await submit_job(stage, kind, spec)] = name
    vault = Vault.from_key_ring(stage.environment["HOLDFAST_VAULT_KEYS"])
    scheduled = asyncio.create_task(
        schedule_scenario.run_schedules(
            stage.case, stage.database, vault, stage.user.id, SHORT_JOB_SPEC
        )
    )
    cancelling = asyncio.create_task(_cancel_jobs(stage))
    restarting = asyncio.create_task(_restart_postgres(stage))
    supervising = asyncio.create_task(_supervise_worker(stage))
    try:
        await cancelling
        await restarting
        stage.handles.update(dict.fromkeys(await scheduled, "succeeds"))
        await wait_until_settled(stage)
    finally:
        supervising.cancel()
        await asyncio.wait([supervising, *stage.zombies])


async def _run_killing_service(stage: ScenarioContext) -> None:
    """Call the service as a client does that repeats a call whose answer it never saw."""
    worker = await stage.fork_server.start("worker", environment=stage.environment)
    port = find_free_port()
    environment = stage.environment | {"HOLDFAST_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    service = await _start_service(stage, port, environment, kills_left=MAX_KILLS)
    restarting = asyncio.create_task(_restart_postgres(stage))
    try:
        for name, (kind, spec) in WORKLOAD.items():
            if kind is JobKind.INFERENCE or name == "is refused":
                continue
            arguments = spec | {"idempotency_key": name}
            view, service = await _call_until_answered(
                stage, service, port, environment, "launch_job", arguments
            )
            job_id = ids.parse_handle(ids.HandleKind.JOB, view["job_id"])
            stage.handles[job_id] = name
            if "cancelled" in name:
                handle = {"job_id": view["job_id"]}
                view, service = await _call_until_answered(
                    stage, service, port, environment, "cancel_job", handle
                )
                if view["state"] == "cancelled":
                    stage.cancelled.add(job_id)
        await restarting
        await wait_until_settled(stage)
    finally:
        await service.kill()
        await worker.kill()


async def _start_service(
    stage: ScenarioContext, port: int, environment: Mapping[str, str], *, kills_left: int
) -> ForkedProcess:
    armed = {"HOLDFAST_FAILPOINT": f"{stage.case.point}:1:kill"} if kills_left else {}
    return await stage.fork_server.start("service", port, environment={**environment, **armed})


async def _call_until_answered(
    stage: ScenarioContext,
    service: ForkedProcess,
    port: int,
    environment: Mapping[str, str],
    tool: str,
    arguments: dict[str, Any],
) -> tuple[dict[str, Any], ForkedProcess]:
    """Call a tool until it answers, with the same key each time."""
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments},
    }
    headers = {
        "authorization": f"Bearer {stage.user.token}",
        "accept": "application/json, text/event-stream",
    }
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    async with AsyncHttpClient(headers=headers, timeout=15) as http:
        while time.monotonic() < deadline:
            if service.exit_code.done():
                stage.kill_count += service.exit_code.result() == -signal.SIGKILL
                service = await _start_service(
                    stage, port, environment, kills_left=max(0, MAX_KILLS - stage.kill_count)
                )
            with suppress(httpx2.TransportError, json.JSONDecodeError):
                answer = await http.post(f"http://127.0.0.1:{port}/mcp", json=message)
                if answer.is_success:
                    result = answer.json()["result"]
                    if not result.get("isError"):
                        return result["structuredContent"], service
            await asyncio.sleep(_POLL_SECONDS)  # between two looks at what others do
    raise TimeoutError(f"{tool} was never answered")


async def _supervise_worker(stage: ScenarioContext) -> None:
    """Run a worker that ends at the failpoint, a few times over; then one that does not."""
    action = "stop" if stage.case.fault is Fault.ZOMBIE else "kill"
    if stage.case.point.startswith("lapse."):
        # Another worker has to stop first, so that a lease lapses.
        await _run_worker_once(stage, "launch.unsent:1:kill")
    while stage.kill_count < MAX_KILLS:
        await _run_worker_once(stage, f"{stage.case.point}:1:{action}")
        stage.kill_count += 1
    await _run_worker_once(stage, "")


async def _run_worker_once(stage: ScenarioContext, failpoint: str) -> None:
    """Run a worker until it ends, or freezes: then it wakes up later, beside the next one."""
    armed = stage.environment | {"HOLDFAST_FAILPOINT": failpoint}
    worker = await stage.fork_server.start("worker", environment=armed)
    try:
        while not worker.exit_code.done():
            if worker.is_stopped():
                stage.zombies.append(asyncio.create_task(_resume_later(worker)))
                return
            await asyncio.wait([worker.exit_code], timeout=_POLL_SECONDS / 2)
        if worker.exit_code.result() != -signal.SIGKILL:
            stage.violations.append(f"a worker ended by itself, with {worker.exit_code.result()}")
    except asyncio.CancelledError:
        await worker.kill()
        raise


async def _resume_later(worker: ForkedProcess) -> None:
    """Let a frozen worker go on after its lease is gone; it may finish its step, and then ends."""
    await asyncio.sleep(LEASE_SECONDS * 1.5)  # frozen past its lease
    worker.send_signal(signal.SIGCONT)
    await asyncio.sleep(LEASE_SECONDS)  # time to finish its step
    worker.send_signal(signal.SIGKILL)


async def _restart_postgres(stage: ScenarioContext) -> None:
    if stage.case.fault is Fault.POSTGRES_RESTARTED:
        for _ in range(2):
            await asyncio.sleep(random.uniform(0.3, 1.2))  # noqa: S311  # no secret
            server = stage.postgres._child  # pyright: ignore[reportPrivateUsage]  # to kill it
            assert server is not None
            assert server.pid is not None
            os.kill(server.pid, signal.SIGQUIT)
            # On this thread: the server would end with another one.
            stage.postgres.start()


async def lend_token(stage: ScenarioContext) -> None:
    """Lend the token of the one subject, however often the database goes away meanwhile."""
    vault = Vault.from_key_ring(stage.environment["HOLDFAST_VAULT_KEYS"])
    while True:
        with suppress(Unavailable):
            async with stage.database.transaction() as tx:
                await credentials.save_credential(
                    tx,
                    vault,
                    subject_id=stage.user.id,
                    name="alice",
                    token=Secret(stage.user.token),
                    expires_at=None,
                )
            return


async def submit_job(stage: ScenarioContext, kind: JobKind, spec: dict[str, Any]) -> UUID:
    """Put a job in the queue, however often the database goes away meanwhile."""
    job_id = ids.new_id()
    while True:
        with suppress(Unavailable):
            async with stage.database.transaction() as tx:
                job = await lifecycle.submit_job(
                    tx,
                    job_id=job_id,
                    subject_id=stage.user.id,
                    kind=kind,
                    namespace="alice",
                    title="crash",
                    spec=spec,
                    labels={},
                    max_open_jobs=1000,
                    rate=JOB_RATE if kind is JobKind.HUB_JOB else None,
                )
            return job.id


async def _cancel_jobs(stage: ScenarioContext) -> None:
    """Cancel two jobs, one before the result of its launch can be known."""
    for job_id, name in stage.handles.items():
        if "cancelled" not in name:
            continue
        if "runs" in name:
            await asyncio.sleep(1.2)  # so that some already run
        while job_id not in stage.cancel_requested:
            with suppress(Unavailable):
                async with stage.database.transaction() as tx:
                    await lifecycle.cancel_job(tx, job_id, subject_id=stage.user.id)
                    called_off = await tx.fetchval(
                        "SELECT state = 'cancelled' FROM job WHERE id = $1", job_id
                    )
                stage.cancel_requested.add(job_id)
                if called_off:
                    stage.cancelled.add(job_id)


async def wait_until_settled(stage: ScenarioContext) -> None:
    """Wait until nothing is owed, let come what comes late, and wait until it is over as well.

    Rows alone cannot say so: of what comes late they know nothing until a worker has listed it.
    """
    await _wait_until(lambda: is_settled(stage))
    async with AsyncHttpClient(timeout=30) as http:
        await http.post(f"{stage.hub_url}{CALM_PATH}")

    arrived_at = time.monotonic()

    async def is_over() -> bool:
        # The Hub first: what it has no more of is in the rows by the time they are read.
        return await _is_hub_quiet(stage) and await is_settled(stage)

    has_settled = await _wait_until(is_over)
    stage.settling_seconds = time.monotonic() - arrived_at
    if not has_settled:
        stage.violations.append(f"not over after {_TIMEOUT_SECONDS:g} s: {stage.arrivals}")


async def _wait_until(probe: Callable[[], Awaitable[bool]]) -> bool:
    """Probe until it holds, or the time is over; say whether it held."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not await probe():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)  # between two looks at what others do
    return True


async def _is_hub_quiet(stage: ScenarioContext) -> bool:
    """Tell whether the Hub runs nothing, and a listing has shown all that came late."""
    async with AsyncHttpClient(timeout=30) as http:
        answer = await http.get(f"{stage.hub_url}{ARRIVALS_PATH}")
    stage.arrivals = Arrivals(**answer.json())
    jobs = await list_hub_jobs(stage.hub_url, stage.user)
    return stage.arrivals.unlisted_count == 0 and not any(map(is_alive, jobs))


async def is_settled(stage: ScenarioContext) -> bool:
    """Tell whether every job is over, and nothing upstream is owed a step."""
    with suppress(Unavailable):
        async with stage.database.transaction() as tx:
            held = await tx.fetchval("SELECT hold = 'credentials' FROM subject")
            quiet: bool = await tx.fetchval(
                "SELECT NOT EXISTS (SELECT FROM job WHERE finished_at IS NULL) AND NOT EXISTS"
                " (SELECT FROM remote_run WHERE state IN ('posting', 'unknown', 'bound'))"
            )
        if held:
            await lend_token(stage)
        return quiet
    return False
