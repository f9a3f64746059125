"""One scenario: jobs are carried out while a process is killed at one place, under one fault.

a database and a Hub of its own ─▶ jobs, cancels ─▶ worker, killed at each visit of the place,
and started again ─▶ quiet ─▶ late arrivals ─▶ quiet again ─▶ `tests.crash.books`
"""

import asyncio
import base64
import json
import os
import random
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
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
from service.local.hub_emulator.users import LocalUser, load_users, user_with
from service.local.ports import free_port
from service.local.servers.postgres import Postgres
from tests.crash import schedules
from tests.crash.books import BASIC, NOTHING, Books, audit
from tests.crash.faults import CALM, Fault
from tests.crash.processes import Nursery, Process
from tests.crash.scenes import Scene

LEASE: Final = 1.0
LIVES: Final = 2  # times a scenario ends the process; after that it runs undisturbed
_PATIENCE: Final = 60.0
_LOOK: Final = 0.1
_SETTINGS: Final = {
    "HOLDFAST_LEASE": f"{LEASE}s",
    "HOLDFAST_POST_TIMEOUT": "0.7s",
    "HOLDFAST_SETTLE": "2s",
    "HOLDFAST_SWEEP": "0.2s",
    "HOLDFAST_OBSERVE_MIN": "0.3s",
    "HOLDFAST_OBSERVE_MAX": "1s",
    **dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"), "1"),
}
SHORT: Final[dict[str, Any]] = {
    "image": "python:3.12",
    "command": ["true"],
    "flavor": "cpu-basic",
    "timeout": 60,
}
_LONG: Final = SHORT | {"command": ["sleep", "600"]}
_CHAT: Final[dict[str, Any]] = {
    "task": "chat-completion",
    "model": "local/echo",
    "inputs": [{"role": "user", "content": "hello"}],
    "parameters": {},
    "provider": None,
    "timeout": 5,
}
WORK: Final[dict[str, tuple[JobKind, dict[str, Any]]]] = {
    "succeeds": (JobKind.HUB_JOB, SHORT),
    "fails": (JobKind.HUB_JOB, SHORT | {"command": ["sh", "-c", "echo so; exit 3"]}),
    "is refused": (JobKind.HUB_JOB, SHORT | {"flavor": "no-such"}),
    "is cancelled at once": (JobKind.HUB_JOB, _LONG),
    "is cancelled while it runs": (JobKind.HUB_JOB, _LONG),
    "asks a model": (JobKind.INFERENCE, _CHAT),
}


@dataclass(slots=True)
class Verdict:
    """What came of a scene."""

    scene: Scene
    reached: int
    """How often a process was ended there."""
    seconds: float
    books: Books
    violations: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Stage:
    """What one scene plays on."""

    scene: Scene
    nursery: Nursery
    postgres: Postgres
    database: Database
    url: str
    hub: str
    user: LocalUser
    environment: dict[str, str]
    valkey_url: str
    reached: int = 0
    handles: dict[UUID, str] = field(default_factory=dict[UUID, str])
    asked_off: set[UUID] = field(default_factory=set[UUID])
    cancelled: set[UUID] = field(default_factory=set[UUID])
    broken: list[str] = field(default_factory=list[str])
    zombies: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])


async def play(
    scene: Scene, nursery: Nursery, postgres: Postgres, template: str, valkey_url: str
) -> Verdict:
    """Play one scene, and check the books."""
    started = time.monotonic()
    reached, books, violations = 0, NOTHING, list[str]()
    try:
        async with open_stage(scene, nursery, postgres, template, valkey_url) as stage:
            await (_play_service if scene.in_service else _play_worker)(stage)
            reached = stage.reached
            books, violations = await audit(
                stage.url, stage.hub, stage.user, stage.handles, stage.cancelled, scene
            )
            violations += stage.broken
    except Exception as error:  # noqa: BLE001  # told with the others, which go on
        violations.append(f"the scene broke off: {error!r}")
    return Verdict(scene, reached, time.monotonic() - started, books, violations)


@asynccontextmanager
async def open_stage(
    scene: Scene, nursery: Nursery, postgres: Postgres, template: str, valkey_url: str
) -> AsyncGenerator[Stage]:
    """Make a database and a Hub for one scene."""
    name = f"scene_{os.urandom(6).hex()}"
    await administer(template, f'CREATE DATABASE {name} TEMPLATE "{urlsplit(template).path[1:]}"')
    url = urlunsplit(urlsplit(template)._replace(path=f"/{name}"))
    port = free_port()
    folder = nursery.folder / "hub"
    user = user_with(load_users(folder), "alice")
    hub = await nursery.start("hub", str(folder), port, scene.fault.value)
    address = f"http://127.0.0.1:{port}"
    redis = f"redis://127.0.0.1:{free_port()}/0" if scene.fault is Fault.REDIS_GONE else valkey_url
    environment = _SETTINGS | {
        "HOLDFAST_DATABASE_URL": url,
        "HOLDFAST_REDIS_URL": redis,
        "HOLDFAST_HUB_URL": address,
        "HOLDFAST_ROUTER_URL": address,
        "HOLDFAST_VAULT_KEYS": f"1:{base64.b64encode(os.urandom(32)).decode()}",
        "HOLDFAST_UNKNOWN": scene.unknown,
    }
    try:
        async with Database(url, application="crash") as database:
            yield Stage(scene, nursery, postgres, database, url, address, user, environment, redis)
    finally:
        # Asked to stop, so that its jobs end with it.
        hub.signal(signal.SIGTERM)
        await hub.over
        await administer(template, f"DROP DATABASE {name} WITH (FORCE)")


async def administer(url: str, statement: str) -> None:
    """Run a statement that cannot be in a transaction, once the server is back."""
    while True:
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(urlunsplit(urlsplit(url)._replace(path="/postgres")))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()
            return
        await asyncio.sleep(_LOOK)  # between two looks at what others do


async def _play_worker(stage: Stage) -> None:
    await sign_in(stage)
    for name, (kind, spec) in WORK.items():
        stage.handles[await submit(stage, kind, spec)] = name
    vault = Vault.of(stage.environment["HOLDFAST_VAULT_KEYS"])
    scheduled = asyncio.create_task(
        schedules.timetable(stage.scene, stage.database, vault, stage.user.id, SHORT)
    )
    cancelling = asyncio.create_task(_cancel(stage))
    nemesis = asyncio.create_task(_nemesis(stage))
    supervising = asyncio.create_task(_supervise(stage))
    try:
        await cancelling
        await nemesis
        stage.handles.update(dict.fromkeys(await scheduled, "succeeds"))
        await settle(stage)
    finally:
        supervising.cancel()
        await asyncio.wait([supervising, *stage.zombies])


async def _play_service(stage: Stage) -> None:
    """Call the service as a client does that repeats a call whose answer it never saw."""
    worker = await stage.nursery.start("worker", environment=stage.environment)
    port = free_port()
    environment = stage.environment | {"HOLDFAST_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    service = await _service(stage, port, environment, lives=LIVES)
    nemesis = asyncio.create_task(_nemesis(stage))
    try:
        for name, (kind, spec) in WORK.items():
            if kind is JobKind.INFERENCE or name == "is refused":
                continue
            arguments = spec | {"idempotency_key": name}
            view, service = await _insist(
                stage, service, port, environment, "launch_job", arguments
            )
            job_id = ids.read(ids.Kind.JOB, view["job_id"])
            stage.handles[job_id] = name
            if "cancelled" in name:
                handle = {"job_id": view["job_id"]}
                view, service = await _insist(
                    stage, service, port, environment, "cancel_job", handle
                )
                if view["state"] == "cancelled":
                    stage.cancelled.add(job_id)
        await nemesis
        await settle(stage)
    finally:
        await service.kill()
        await worker.kill()


async def _service(
    stage: Stage, port: int, environment: Mapping[str, str], *, lives: int
) -> Process:
    armed = {"HOLDFAST_FAILPOINT": f"{stage.scene.point}:1:kill"} if lives else {}
    return await stage.nursery.start("service", port, environment={**environment, **armed})


async def _insist(
    stage: Stage,
    service: Process,
    port: int,
    environment: Mapping[str, str],
    tool: str,
    arguments: dict[str, Any],
) -> tuple[dict[str, Any], Process]:
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
    deadline = time.monotonic() + _PATIENCE
    async with httpx2.AsyncClient(headers=headers, timeout=15) as http:
        while time.monotonic() < deadline:
            if service.over.done():
                stage.reached += service.over.result() == -signal.SIGKILL
                service = await _service(
                    stage, port, environment, lives=max(0, LIVES - stage.reached)
                )
            with suppress(httpx2.TransportError, json.JSONDecodeError):
                answer = await http.post(f"http://127.0.0.1:{port}/mcp", json=message)
                if answer.is_success:
                    result = answer.json()["result"]
                    if not result.get("isError"):
                        return result["structuredContent"], service
            await asyncio.sleep(_LOOK)  # between two looks at what others do
    raise TimeoutError(f"{tool} was never answered")


async def _supervise(stage: Stage) -> None:
    """Keep a worker running that ends at the place, a few times over; then one that does not."""
    deed = "stop" if stage.scene.fault is Fault.ZOMBIE else "kill"
    if stage.scene.point.startswith("lapse."):
        # Somebody has to fall silent first.
        await _live(stage, "launch.unsent:1:kill")
    while stage.reached < LIVES:
        await _live(stage, f"{stage.scene.point}:1:{deed}")
        stage.reached += 1
    await _live(stage, "")


async def _live(stage: Stage, failpoint: str) -> None:
    """Run a worker until it ends, or freezes: then it wakes up later, beside the next one."""
    armed = stage.environment | {"HOLDFAST_FAILPOINT": failpoint}
    worker = await stage.nursery.start("worker", environment=armed)
    try:
        while not worker.over.done():
            if worker.is_stopped():
                stage.zombies.append(asyncio.create_task(_wake_later(worker)))
                return
            await asyncio.wait([worker.over], timeout=_LOOK / 2)
        if worker.over.result() != -signal.SIGKILL:
            stage.broken.append(f"a worker ended by itself, with {worker.over.result()}")
    except asyncio.CancelledError:
        await worker.kill()
        raise


async def _wake_later(worker: Process) -> None:
    """Let a frozen worker go on after its lease is gone; it may finish its step, and then ends."""
    await asyncio.sleep(LEASE * 1.5)  # frozen past its lease
    worker.signal(signal.SIGCONT)
    await asyncio.sleep(LEASE)  # time to finish its step
    worker.signal(signal.SIGKILL)


async def _nemesis(stage: Stage) -> None:
    if stage.scene.fault is Fault.POSTGRES_RESTARTED:
        for _ in range(2):
            await asyncio.sleep(random.uniform(0.3, 1.2))  # noqa: S311  # no secret
            server = stage.postgres._child  # pyright: ignore[reportPrivateUsage]  # to kill it
            assert server is not None
            assert server.pid is not None
            os.kill(server.pid, signal.SIGQUIT)
            # On this thread: the server would end with another one.
            stage.postgres.start()


async def sign_in(stage: Stage) -> None:
    """Lend the token of the one subject, as an authenticated call does."""
    vault = Vault.of(stage.environment["HOLDFAST_VAULT_KEYS"])
    async with stage.database.transaction() as tx:
        await credentials.remember(
            tx,
            vault,
            subject_id=stage.user.id,
            name="alice",
            token=Secret(stage.user.token),
            expires_at=None,
        )


async def submit(stage: Stage, kind: JobKind, spec: dict[str, Any]) -> UUID:
    """Put a job in the queue, however often the database goes away meanwhile."""
    job_id = ids.new_id()
    while True:
        with suppress(Unavailable):
            async with stage.database.transaction() as tx:
                job = await lifecycle.submit(
                    tx,
                    job_id=job_id,
                    subject_id=stage.user.id,
                    kind=kind,
                    namespace="alice",
                    title="crash",
                    spec=spec,
                    labels={},
                    most_open=1000,
                    rate=BASIC if kind is JobKind.HUB_JOB else None,
                )
            return job.id


async def _cancel(stage: Stage) -> None:
    """Call two jobs off, one before anybody can know how its launch went."""
    for job_id, name in stage.handles.items():
        if "cancelled" not in name:
            continue
        if "runs" in name:
            await asyncio.sleep(1.2)  # so that some already run
        while job_id not in stage.asked_off:
            with suppress(Unavailable):
                async with stage.database.transaction() as tx:
                    await lifecycle.cancel(tx, job_id, subject_id=stage.user.id)
                    called_off = await tx.fetchval(
                        "SELECT state = 'cancelled' FROM job WHERE id = $1", job_id
                    )
                stage.asked_off.add(job_id)
                if called_off:
                    stage.cancelled.add(job_id)


async def settle(stage: Stage) -> None:
    """Wait until nothing is owed, let come what comes late, and wait again."""
    for _ in range(2):
        deadline = time.monotonic() + _PATIENCE
        while not await is_quiet(stage):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK)  # between two looks at what others do
        async with httpx2.AsyncClient(timeout=30) as http:
            await http.post(f"{stage.hub}{CALM}")
        await asyncio.sleep(timedelta(seconds=1.5).total_seconds())  # what comes late comes now


async def is_quiet(stage: Stage) -> bool:
    """Tell whether every job is over, and nothing upstream is owed a step."""
    with suppress(Unavailable):
        async with stage.database.transaction() as tx:
            held = await tx.fetchval("SELECT hold = 'credentials' FROM subject")
            quiet: bool = await tx.fetchval(
                "SELECT NOT EXISTS (SELECT FROM job WHERE finished_at IS NULL) AND NOT EXISTS"
                " (SELECT FROM remote_run WHERE state IN ('posting', 'unknown', 'bound'))"
            )
        if held:
            await sign_in(stage)
        return quiet
    return False
