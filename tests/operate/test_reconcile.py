"""After a restore nothing is launched twice, and no handle that was answered is lost."""

import io
import json
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import anyio
import asyncpg
import pytest
from anyio import to_thread
from huggingface_hub import HfApi
from rich.console import Console
from structlog.testing import capture_logs

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.restored_subjects import mark_restored
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.db.backup.dump import dump_database
from schema.db.backup.format import BackupReader
from schema.db.backup.load import load_database
from schema.db.database import Database
from schema.hub.labels import JOB_LABEL, RUN_LABEL, RUN_VARIABLE, SERVER_LABEL
from schema.jobs import lifecycle, run_launch
from schema.jobs.tables import Job, JobKind
from schema.settings import Settings
from service.cli.backups.backup import list_backup_tables
from service.local.hub_emulator.users import find_user, load_users
from service.local.ports import find_free_port
from tests.support.database.row_security import tenant_transaction
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, EVE_ID
from workers.loops import engine
from workers.loops.reconcile_command import parse_arguments, run_reconcile
from workers.worker import build_worker

SLEEP: Final = {
    "image": "python:3.12",
    "command": ["sleep", "300"],
    "flavor": "cpu-basic",
    "timeout": 600,
}
CALL: Final[dict[str, Any]] = {"task": "chat", "model": "m", "inputs": [], "parameters": {}}
CANARY: Final = "a-secret-that-is-lost"
QUICK: Final = {"lease": "2s", "post_timeout": "1s", "settle": "4s", "observe_min": "200ms"}


@dataclass(frozen=True)
class Deployment:
    """One database, a Hub, and workers that run when they are told to."""

    url: str
    hub: HubEmulatorProcess
    vault: Vault
    make_settings: Callable[..., Settings]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Database]:
        async with Database(
            self.url, application_name="tests", role=DatabaseRole.WORKER
        ) as database:
            yield database

    async def submit(self, kind: JobKind = JobKind.HUB_JOB, **overrides: Any) -> Job:
        request: dict[str, Any] = {
            "subject_id": ADA_ID,
            "kind": kind,
            "namespace": "alice",
            "title": "sleep",
            "spec": SLEEP if kind is JobKind.HUB_JOB else CALL,
            "labels": {"mine": "yes"},
            "max_open_jobs": 1000,
        }
        async with self.open() as database, database.transaction() as tx:
            return await lifecycle.submit_job(tx, **request | overrides)

    async def submit_with_secret(self, text: str) -> Job:
        """Submit a job that prints its secret."""
        command = ["sh", "-c", "echo it is $MY_KEY; sleep 300"]
        spec = {**SLEEP, "command": command, "env": {"AB": "1"}, "secrets": ["MY_KEY"]}
        job = await self.submit(spec=spec)
        async with self.open() as database, database.transaction() as tx:
            await sealed_secrets.save_job_secrets(
                tx, self.vault, job.id, ADA_ID, {"MY_KEY": Secret(text)}
            )
        return job

    async def sign_up(self) -> None:
        token = Secret(find_user(self.hub.users, "alice").token)
        async with self.open() as database, database.transaction() as tx:
            await credentials.save_credential(
                tx, self.vault, subject_id=ADA_ID, name="ada", token=token, expires_at=None
            )

    async def query(self, statement: str, *arguments: Any) -> Any:
        async with self.open() as database, database.transaction() as tx:
            return await tx.fetchval(statement, *arguments)

    async def states(self, *jobs: Job) -> list[str]:
        return [
            await self.query("SELECT state FROM job WHERE id = $1", job.id) or "lost"
            for job in jobs
        ]

    async def remote_ids(self, *jobs: Job) -> list[str]:
        return [
            await self.query(
                "SELECT remote_id FROM remote_run WHERE job_id = $1 AND remote_id IS NOT NULL",
                job.id,
            )
            for job in jobs
        ]

    def settings(self, **overrides: Any) -> Settings:
        own = {
            "HOLDFAST_DATABASE_URL": self.url,
            "hub_url": self.hub.url,
            "router_url": self.hub.url,
        }
        return self.make_settings(**own | QUICK | overrides)

    @asynccontextmanager
    async def working(self, **overrides: Any) -> AsyncGenerator[None]:
        stop = anyio.Event()
        async with (
            build_worker(self.settings(**overrides)) as worker,
            anyio.create_task_group() as group,
        ):
            group.start_soon(engine.run_loops, worker, stop)
            yield
            stop.set()

    async def back_up(self) -> bytes:
        sink = io.BytesIO()
        await dump_database(
            self.url,
            sink,
            tables=list_backup_tables(),
            key_mark=self.vault.key_marks[0],
            find_key=self.vault.find_backup_key,
        )
        return sink.getvalue()

    async def restore(self, backup: bytes) -> None:
        reader = BackupReader(io.BytesIO(backup), self.vault.find_backup_key)
        await load_database(
            self.url,
            reader,
            tables=list_backup_tables(),
            settle_window=self.make_settings(**QUICK).settle,
            finish=partial(mark_restored, backup_at=reader.header.taken_at),
        )

    async def is_reconciled(self) -> bool:
        return bool(await self.query("SELECT reconciled_at IS NOT NULL FROM restored_subject"))

    def upstream(self) -> dict[str, str]:
        """Return the stage of every job at the Hub, by id."""
        api: HfApi = self.hub.api()
        return {job.id: job.status.stage for job in api.list_jobs(namespace="alice")}


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """A Hub with two people in one organisation."""
    folder = tmp_path_factory.mktemp("hub")
    load_users(folder)
    file = folder / "users.json"
    users = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps([user | {"orgs": ["acme"], "pays": True} for user in users]))
    with run_hub_emulator(folder) as running:
        yield running


@pytest.fixture
async def before(
    database_url: str,
    hub: HubEmulatorProcess,
    vault: Vault,
    make_settings: Callable[..., Settings],
) -> Deployment:
    """The deployment whose database will be lost."""
    deployment = Deployment(database_url, hub, vault, make_settings)
    await deployment.sign_up()
    return deployment


@pytest.fixture
async def after(postgres_url: str, before: Deployment) -> AsyncGenerator[Deployment]:
    """The same, on an empty database."""
    admin: asyncpg.Connection = await asyncpg.connect(postgres_url)
    name = f"test_{os.urandom(8).hex()}"
    template = postgres_url.rsplit("/", 1)[-1].split("?", maxsplit=1)[0]
    try:
        await admin.close()
        admin = await asyncpg.connect(postgres_url.replace(f"/{template}", "/postgres"))
        await admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY file_copy')
        url = postgres_url.replace(f"/{template}", f"/{name}")
        deployment = Deployment(url, before.hub, before.vault, before.make_settings)
        yield deployment
        assert await deployment.query("SELECT count(*) FROM v_unowned") == 0
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def launch(deployment: Deployment, *jobs: Job) -> None:
    """Let workers launch what is queued, and stop them when these run at the Hub."""
    async with deployment.working():
        await eventually(
            partial(deployment.states, *jobs), lambda states: set(states) == {"running"}
        )


async def lose_database(before: Deployment) -> tuple[bytes, Job, Job, Job, Job]:
    """Back up with one job running, one queued, and a call; then launch those and a new one."""
    running = await before.submit()
    await launch(before, running)
    queued = await before.submit()
    call = await before.submit(JobKind.INFERENCE)
    backup = await before.back_up()
    new = await before.submit_with_secret(CANARY)
    await launch(before, queued, new)
    assert len(before.upstream()) == 3
    return backup, running, queued, new, call


async def test_nothing_is_launched_twice_and_every_handle_is_there(
    before: Deployment, after: Deployment
) -> None:
    """The heart: the queue of the backup was launched since, and one job is younger than it."""
    backup, running, queued, new, call = await lose_database(before)
    remote_ids = await before.remote_ids(running, queued, new)
    await after.restore(backup)
    assert await after.states(running, queued, new) == ["running", "queued", "lost"]

    async with after.working():
        await eventually(after.is_reconciled, bool)
        assert list(after.upstream()) == list(before.upstream())
        await eventually(
            partial(after.states, running, queued, new),
            lambda states: states == ["running"] * 3,
        )
        assert await after.remote_ids(running, queued, new) == remote_ids
        assert await after.states(call) == ["failed"]
        fresh = await after.submit()
        await eventually(partial(after.states, fresh), lambda states: states == ["running"])
        assert len(after.upstream()) == 4
        for job in (running, queued, new, fresh):
            async with after.open() as database, database.transaction() as tx:
                assert await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
        await eventually(
            partial(after.query, "SELECT count(*) FROM remote_run WHERE state <> 'ended'"),
            lambda count: count == 0,
        )
    assert set(after.upstream().values()) == {"CANCELED"}
    assert await after.query("SELECT reason FROM job WHERE id = $1", call.id) == ("outcome_unknown")
    spec = await after.query("SELECT spec FROM job_payload WHERE job_id = $1", new.id)
    assert (spec["image"], spec["flavor"], spec["timeout"]) == ("python:3.12", "cpu-basic", 600)
    assert (spec["env"]["AB"], spec["secrets"]) == ("1", ["MY_KEY"])
    assert await after.query("SELECT labels FROM job WHERE id = $1", new.id) == {"mine": "yes"}
    assert await after.query("SELECT price_micro_usd FROM job_cost WHERE job_id = $1", new.id)
    logs = "SELECT string_agg(array_to_string(lines, ' '), ' ') FROM log_chunk WHERE job_id = $1"
    assert "withheld" in await after.query(logs, new.id)
    assert CANARY not in await after.query("SELECT string_agg(lines::text, ' ') FROM log_chunk")
    async with tenant_transaction(after.url, EVE_ID) as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0


async def test_nothing_is_launched_while_the_hub_cannot_be_compared(
    before: Deployment, after: Deployment
) -> None:
    """A listing that fails proves nothing, however long it takes."""
    queued = await before.submit()
    backup = await before.back_up()
    await after.restore(backup)
    nowhere = f"http://127.0.0.1:{find_free_port()}"

    async with after.working(hub_url=nowhere, settle="1s"):
        await eventually(
            partial(
                after.query,
                "SELECT now() > restored_at + interval '3 seconds' FROM restored_subject",
            ),
            bool,
        )
        assert await after.states(queued) == ["queued"]
        assert not await after.is_reconciled()
        assert await after.query("SELECT count(*) FROM remote_run") == 0
    async with after.working(settle="1s"):
        await eventually(partial(after.states, queued), lambda states: states == ["running"])
    assert len(after.upstream()) == 1


async def test_a_job_that_was_cancelled_before_the_comparison_is_stopped_at_the_hub(
    before: Deployment, after: Deployment
) -> None:
    """The restored row says queued, so the cancel was answered at once; its run goes on (I4)."""
    backup, running, queued, new, _ = await lose_database(before)
    await after.restore(backup)
    async with after.open() as database, database.transaction() as tx:
        assert await lifecycle.cancel_job(tx, queued.id, subject_id=ADA_ID)
    [remote_id] = await before.remote_ids(queued)

    async with after.working():
        await eventually(
            lambda: to_thread.run_sync(after.upstream),
            lambda stages: stages[remote_id] == "CANCELED",
        )
        await eventually(after.is_reconciled, bool)
    assert await after.states(running, queued, new) == ["running", "cancelled", "running"]
    assert len(after.upstream()) == 3


async def test_the_command_cancels_what_the_backup_does_not_have(
    before: Deployment, after: Deployment
) -> None:
    """Handle by handle in a table; a dry run only shows it."""
    backup, running, queued, new, _ = await lose_database(before)
    await after.restore(backup)

    async def reconcile(*options: str, width: int) -> tuple[int, str]:
        printed = io.StringIO()
        async with build_worker(after.settings()) as worker:
            code = await run_reconcile(
                worker, parse_arguments(options), Console(file=printed, width=width)
            )
        return code, printed.getvalue()

    with capture_logs() as lines:
        _, shown = await reconcile("--dry-run", width=80)
    assert "nothing was changed" in shown
    for job in (queued, new):
        assert ids.format_handle(ids.HandleKind.JOB, job.id) in shown
    assert "run.adopted" not in {line["event"] for line in lines}
    assert await after.states(queued, new) == ["queued", "lost"]
    code, printed = await reconcile("--cancel", width=250)

    for job in (queued, new):
        assert ids.format_handle(ids.HandleKind.JOB, job.id) in printed
    assert printed.count("adopted, and cancelled") == 2
    assert "2 jobs at the Hub seen to be stopped." in printed
    assert "compared again until the listings are certain" in printed
    assert code == 1
    assert await after.states(running, queued, new) == ["running", "cancelled", "cancelled"]
    assert sorted(after.upstream().values()) == ["CANCELED", "CANCELED", "RUNNING"]


async def test_jobs_that_this_deployment_has_not_launched_are_left_alone(
    before: Deployment, after: Deployment
) -> None:
    """Those of another Holdfast of the same person, older ones, and whatever copies our labels."""
    queued = await before.submit()
    backup = await before.back_up()
    server = str(await before.query("SELECT id FROM deployment"))
    job_id, other = ids.new_id(), ids.new_id()
    foreign = set[str]()
    old = UUID(int=other.int & ~(0xFFFFFFFFFFFF << 80) | (1_600_000_000_000 << 80))

    def run(
        job: UUID,
        server: str,
        run_id: UUID,
        variable: str | None = None,
        *,
        user: str = "alice",
        namespace: str = "alice",
    ) -> None:
        made = before.hub.api(user).run_job(
            image="python:3.12",
            command=["sleep", "300"],
            namespace=namespace,
            env={RUN_VARIABLE: variable or str(run_id)},
            labels={
                "holdfast-app": "holdfast",
                JOB_LABEL: ids.format_handle(ids.HandleKind.JOB, job),
                RUN_LABEL: str(run_id),
                SERVER_LABEL: server,
            },
        )
        foreign.add(made.id)

    run(job_id, str(ids.new_id()), ids.new_id())  # of another deployment
    run(queued.id, str(ids.new_id()), ids.new_id())
    run(old, server, ids.new_id())  # retention has deleted its row before the backup
    run(job_id, server, ids.new_id(), variable=str(ids.new_id()))  # edited labels
    # Whoever is in the same organisation can read our labels, and write them on a job of their own.
    run(queued.id, server, ids.new_id(), user="bob", namespace="acme")
    await after.restore(backup)

    async with after.working(settle="1s"):
        await eventually(partial(after.states, queued), lambda states: states == ["running"])
    assert await after.query("SELECT count(*) FROM job") == 1
    assert await after.query("SELECT count(*) FROM remote_run") == 1
    assert await after.query("SELECT remote_id FROM remote_run") not in foreign
    assert "CANCELED" not in after.upstream().values()


async def test_a_later_attempt_settles_the_one_that_the_backup_has_in_flight(
    before: Deployment, after: Deployment
) -> None:
    """The first request was refused after the backup; the second one runs, and is the only one."""
    job = await before.submit()
    async with before.open() as database, database.transaction() as tx:
        [claim] = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w",
            lease=timedelta(minutes=1),
            settle_window=timedelta(minutes=1),
        )
    backup = await before.back_up()
    async with before.open() as database, database.transaction() as tx:
        await run_launch.mark_not_created(tx, claim.run_id, reason=None, message="busy", worker="w")
    await launch(before, job)
    await after.restore(backup)

    async with after.working():
        await eventually(after.is_reconciled, bool)
        assert await after.states(job) == ["running"]
    assert list(after.upstream().values()) == ["RUNNING"]
    runs = "SELECT string_agg(state || ' ' || attempt, ', ' ORDER BY attempt) FROM remote_run"
    assert await after.query(runs) == "rejected 1, bound 2"
