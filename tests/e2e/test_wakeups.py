"""Workers without Redis: wake-ups are lost for a moment, jobs and workers never.

Each test has a Valkey to break, a database and a worker process of its own. Most of these workers
hardly ever sweep, so that only a wake-up explains that a job has been carried out.
"""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from schema.messaging import wakeups
from schema.specs.inference import InferenceSpec
from service.local.environment import service_environment
from service.local.hub_emulator.app import create_hub_emulator
from service.local.hub_emulator.users import LocalUser, load_users
from service.local.ports import find_free_port
from service.web.client_config import Connection
from tests.support.database.servers import BreakableValkey
from tests.support.http_clients import AsyncHttpClient
from tests.support.http_server import serve_app
from tests.support.jobs.handles import job_handle
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.programs import run_program
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("wakeups")

SPEC: Final = InferenceSpec(model="local/echo", inputs="Hello.")


@dataclass(frozen=True, slots=True)
class RedisBench:
    """A Valkey to break, a sender of wake-ups, and the environment of processes that use it."""

    valkey: BreakableValkey
    redis: Redis
    wakeups: wakeups.WakeupSender
    database: Database
    user: LocalUser
    environment: dict[str, str]
    url: str
    log: Path

    @contextmanager
    def run_process(self, *command: str, sweep: str = "1s", exit_code: int = 0) -> Generator[None]:
        """Run a process of ours: the same one, alive, until it is told to stop, and then stops."""
        environment = self.environment | {"HOLDFAST_SWEEP": sweep}
        with run_program(*command, environment=environment, log=self.log) as process:
            yield
            assert process.poll() is None, f"it ended by itself, see {self.log}"
            process.terminate()
            assert process.wait(timeout=10) == exit_code

    def run_worker(self) -> AbstractContextManager[None]:
        """Run a worker that sweeps when it starts, and then learns of a job only by a wake-up."""
        return self.run_process("workers", sweep="1h")

    def run_service(self) -> AbstractContextManager[None]:
        """Run a service."""
        _, _, port = self.url.rpartition(":")
        return self.run_process("service", "serve", "--port", port, exit_code=-signal.SIGTERM)

    async def queue_jobs(self, count: int = 1) -> list[UUID]:
        """Queue jobs as the service does, with a wake-up for each."""
        jobs: list[UUID] = []
        for _ in range(count):
            async with self.database.transaction() as tx:
                job = await lifecycle.submit_job(
                    tx,
                    subject_id=self.user.id,
                    kind=JobKind.INFERENCE,
                    namespace=self.user.name,
                    title="local/echo: Hello.",
                    spec=SPEC.to_stored_json(),
                    labels={},
                    max_open_jobs=1000,
                )
            await self.wakeups.send(job_handle(job.id), JobKind.INFERENCE)
            jobs.append(job.id)
        return jobs

    async def count_states(self, jobs: list[UUID]) -> Counter[str]:
        """Count jobs by state."""
        async with self.database.transaction() as tx:
            rows = await tx.fetch("SELECT state FROM job WHERE id = ANY($1::uuid[])", jobs)
        return Counter(row["state"] for row in rows)

    async def wait_until_succeeded(self, jobs: list[UUID]) -> None:
        """Wait until each of the jobs has succeeded."""
        await eventually(
            lambda: self.count_states(jobs), lambda seen: seen["succeeded"] == len(jobs)
        )

    async def put_message(self, name: bytes, message: bytes) -> None:
        """Leave a message in the queue, and wait until nothing is there any more."""
        await self.redis.set(b"arq:job:" + name, message)
        await self.redis.zadd(wakeups.queue_name(), {name: 1})
        await eventually(lambda: self.redis.exists(wakeups.queue_name()), lambda there: not there)

    async def wait_until_woken(self) -> None:
        """Wait until a wake-up arrives; a busy machine may lose some of them by itself."""
        jobs = await self.queue_jobs()

        async def wake_again() -> Counter[str]:
            await self.wakeups.send("again", JobKind.INFERENCE)
            return await self.count_states(jobs)

        await eventually(wake_again, lambda seen: seen["succeeded"] == 1)


@pytest.fixture(scope="module")
def hub_url_and_user(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, LocalUser]]:
    """A local Hub, and somebody who may act there."""
    folder = tmp_path_factory.mktemp("hub")
    with serve_app(create_hub_emulator(folder)) as url:
        yield url, load_users(folder)[0]


@pytest.fixture
async def redis_bench(
    hub_url_and_user: tuple[str, LocalUser], database: Database, database_url: str, tmp_path: Path
) -> AsyncGenerator[RedisBench]:
    """A bench of the test's own."""
    hub_url, user = hub_url_and_user
    valkey = BreakableValkey(tmp_path / "valkey")
    redis_url, url = valkey.start(), f"http://127.0.0.1:{find_free_port()}"
    environment = service_environment(
        tmp_path,
        os.environ,
        database_url=database_url,
        redis_url=redis_url,
        hub_url=hub_url,
        hub_is_local=True,
        public_url=url,
    )
    vault, token = Vault.from_key_ring(environment["HOLDFAST_VAULT_KEYS"]), Secret(user.token)
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=user.id, name=user.name, token=token, expires_at=None
        )
    try:
        async with (
            wakeups.open_wakeup_sender(redis_url) as sender,
            Redis.from_url(redis_url) as redis,
        ):
            yield RedisBench(
                valkey, redis, sender, database, user, environment, url, tmp_path / "log"
            )
    finally:
        valkey.stop()


async def test_a_worker_that_starts_without_redis_hears_it_once_it_is_there(
    redis_bench: RedisBench,
) -> None:
    """In whatever order things are started, nobody has to start anything twice."""
    redis_bench.valkey.stop()
    jobs = await redis_bench.queue_jobs(3)

    with redis_bench.run_worker():
        await redis_bench.wait_until_succeeded(jobs)
        redis_bench.valkey.start()
        await redis_bench.wait_until_woken()


async def test_a_worker_that_redis_turns_away_hears_it_once_it_is_let_in(
    redis_bench: RedisBench,
) -> None:
    """Whoever mends a password or an access list need not know which workers there are."""
    await redis_bench.redis.acl_setuser("default", enabled=True, commands=["-ping"])
    jobs = await redis_bench.queue_jobs(3)

    with redis_bench.run_worker():
        await redis_bench.wait_until_succeeded(jobs)
        await redis_bench.redis.acl_setuser("default", enabled=True, commands=["+ping"])
        await redis_bench.wait_until_woken()


async def test_killing_redis_again_and_again_costs_no_job_and_no_worker(
    redis_bench: RedisBench,
) -> None:
    """Neither what it had been told nor what it could not be told is lost."""
    jobs: list[UUID] = []
    with redis_bench.run_worker():
        await redis_bench.wait_until_woken()
        for _ in range(3):
            jobs += await redis_bench.queue_jobs(8)
            redis_bench.valkey.kill()
            jobs += await redis_bench.queue_jobs(4)
            redis_bench.valkey.start()
        await redis_bench.wait_until_woken()
        await redis_bench.wait_until_succeeded(jobs)


async def test_flushing_redis_all_the_time_keeps_no_job_from_its_end(
    redis_bench: RedisBench,
) -> None:
    """What Redis forgets Postgres remembers."""

    async def flush_for_ever() -> None:
        while True:
            await redis_bench.redis.flushall()

    with redis_bench.run_process("workers"):
        async with anyio.create_task_group() as flushes:
            flushes.start_soon(flush_for_ever)
            await redis_bench.wait_until_succeeded(await redis_bench.queue_jobs(24))
            flushes.cancel_scope.cancel()


async def test_wakes_that_repeat_or_make_no_sense_do_no_harm(redis_bench: RedisBench) -> None:
    """A wake-up has no authority, whoever left it in the queue."""
    with redis_bench.run_worker():
        jobs = await redis_bench.queue_jobs()
        for name in (*jobs, ids.new_id()):
            for _ in range(30):
                await redis_bench.wakeups.send(job_handle(name))
        await redis_bench.wait_until_succeeded(jobs)
        async with redis_bench.database.transaction() as tx:
            assert await tx.fetchval("SELECT attempt FROM job") == 1

        unknown, wrong = _arq_message(f="nobody"), _arq_message(a=7, k={"job_id": None})
        for message in (unknown, wrong, b'{"f": "wake"}', b"\x80\x04\x95 not JSON"):
            await redis_bench.put_message(b"strange", message)
        await redis_bench.wait_until_woken()


async def test_a_queue_that_breaks_the_listener_is_thrown_away(redis_bench: RedisBench) -> None:
    """What cannot be read would break it again each time, and no wake-up would arrive any more."""
    with redis_bench.run_worker():
        await redis_bench.put_message(b"\xff\xfe", b"is no name")
        await redis_bench.wait_until_woken()
        await redis_bench.put_message(b"unhashable", _arq_message(f=[]))
        await redis_bench.wait_until_woken()
        await redis_bench.redis.set(wakeups.queue_name(), "no queue")
        await redis_bench.wait_until_woken()


async def test_a_worker_stops_though_redis_does_not_answer(redis_bench: RedisBench) -> None:
    """A deployment waits for nobody's good-bye."""
    with ExitStack() as until_it_has_stopped, redis_bench.run_worker():
        await redis_bench.wait_until_woken()
        until_it_has_stopped.enter_context(redis_bench.valkey.suspended())


async def test_a_redis_that_hangs_keeps_no_launch_waiting_and_is_heard_again(
    redis_bench: RedisBench,
) -> None:
    """Nobody notices but who asks for its health, and whose job waits for the next wake."""
    alice = McpCaller(Connection(redis_bench.url, redis_bench.user.token))
    launched: list[UUID] = []

    async def launch() -> Counter[str]:
        view = await alice.call_tool("launch_inference", model="local/echo", inputs="Hello.")
        launched.append(ids.parse_handle(ids.HandleKind.JOB, view["job_id"]))
        return await redis_bench.count_states(launched)

    with redis_bench.run_service(), redis_bench.run_worker():
        await wait_for_health(redis_bench.url, "ready")
        await eventually(launch, lambda seen: seen["succeeded"] > 0)
        with redis_bench.valkey.suspended():
            for _ in range(5):
                await launch()
            await wait_for_health(redis_bench.url, "degraded")
        await wait_for_health(redis_bench.url, "ready")
        await eventually(launch, lambda seen: seen["succeeded"] > len(launched) - 2)


async def test_a_service_says_that_its_redis_is_gone_and_that_it_is_back(
    redis_bench: RedisBench,
) -> None:
    """A load balancer must not take a service away for a lost wake-up."""
    with redis_bench.run_service():
        await wait_for_health(redis_bench.url, "ready")
        redis_bench.valkey.kill()
        await wait_for_health(redis_bench.url, "degraded")
        redis_bench.valkey.start()
        await wait_for_health(redis_bench.url, "ready")


async def wait_for_health(url: str, status: str) -> None:
    """Wait until a service that can be used says this of itself."""

    async def look() -> tuple[int, str | None]:
        try:
            response = await http.get(f"{url}/health/ready")
        except httpx2.ConnectError:
            return 0, None
        return response.status_code, response.json()["status"]

    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        await eventually(look, lambda seen: seen == (200, status))


def _arq_message(**overrides: Any) -> bytes:
    """Write a message as arq does, and with whatever is wrong with it."""
    message: dict[str, Any] = {"t": None, "f": wakeups.WAKE_TASK, "a": ["nobody"], "k": {}, "et": 1}
    return wakeups.encode_message(message | overrides)
