"""Secrets stay where they are used, whatever becomes of the jobs they are for (I7)."""

import base64
import hashlib
import json
import signal
import subprocess
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import anyio
import asyncpg
import httpx2
import pytest
from anyio import to_thread

from service.local.data_dir import write_private_file
from service.local.hub_emulator.users import LocalTokenKind, LocalUser, find_user, load_users
from service.local.stack import Stack
from tests.e2e.secret_canary import UNTYPED_REDIS, Canary
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.programs import run_program
from tests.support.stack import without_worker

pytestmark = [pytest.mark.xdist_group("canaries"), pytest.mark.timeout(240)]

PATIENCE = timedelta(seconds=60)
JSON_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
QUICK_SETTINGS = {
    "HOLDFAST_LEASE": "3s",
    "HOLDFAST_POST_TIMEOUT": "2s",
    "HOLDFAST_SETTLE": "3s",
    "HOLDFAST_OBSERVE_MAX": "1s",
}
"""A worker that dies is missed soon."""
TELLS_DIGEST = (
    "import hashlib, os; print(hashlib.sha256(os.environ['KEY'].encode()).hexdigest(),"
    " 'HF_TOKEN' in os.environ)"
)


@dataclass
class CanaryStack:
    """A stack whose every secret is a canary, and everything it has answered."""

    stack: Stack
    canary: Canary
    users: list[LocalUser]
    answers: list[bytes] = field(default_factory=list)

    @property
    def alice(self) -> str:
        """The token of somebody who may launch."""
        return find_user(self.users, "alice").token

    async def post(
        self, content: bytes, path: str = "/mcp", **headers: str
    ) -> httpx2.Response | None:
        """Send a body, and keep all that comes back; none if the connection was dropped."""
        defaults = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        sent = defaults | {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
                answer = await http.post(f"{self.stack.url}{path}", content=content, headers=sent)
        except httpx2.TransportError:
            return None
        self.answers.append(repr(answer.headers.multi_items()).encode() + answer.content)
        return answer

    async def call(
        self, tool: str, caller_token: str | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Call a tool; return what it answers, refusals included."""
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        authorization = f"Bearer {caller_token or self.alice}"
        answer = await self.post(json.dumps(message).encode(), authorization=authorization)
        assert answer is not None
        result: dict[str, Any] = answer.json()["result"]
        return result

    async def launch(self, *command: str, token: str | None = None, **overrides: Any) -> str:
        """Launch a job that was given secrets and the caller's token; return its handle."""
        secrets = {"KEY": self.canary.make_secret("key"), "OTHER": self.canary.make_secret("other")}
        arguments = {"secrets": secrets, "pass_token": True} | overrides
        request = {"image": "python:3.12", "command": list(command), **arguments}
        result = await self.call("launch_job", token, **request)
        assert not result.get("isError"), result
        handle: str = result["structuredContent"]["job_id"]
        return handle

    async def status(self, handle: str, token: str | None = None) -> dict[str, Any]:
        """Look at a job."""
        result = await self.call("job_status", token, job_ids=[handle])
        view: dict[str, Any] = result["structuredContent"]["jobs"][0]
        return view

    async def wait_until_over(self, handle: str, token: str | None = None) -> dict[str, Any]:
        """Wait until nothing more happens to a job, and read all there is of it."""
        view = await eventually(
            lambda: self.status(handle, token),
            lambda view: view["poll_after_seconds"] is None,
            timeout=PATIENCE,
        )
        for tool in ("job_logs", "job_result"):
            await self.call(tool, token, job_id=handle)
        return view

    async def wait_until_running(self, handle: str) -> None:
        """Wait until a job runs upstream."""
        await eventually(
            lambda: self.status(handle), lambda view: view["state"] == "running", timeout=PATIENCE
        )

    async def count_sealed_secrets(self) -> int:
        """Count the jobs whose secrets are kept."""
        connection: asyncpg.Connection = await asyncpg.connect(self.stack.database_url)
        try:
            count: int = await connection.fetchval("SELECT count(*) FROM job_secret")
        finally:
            await connection.close()
        return count

    async def find_canaries(self) -> list[str]:
        """Look for the canary wherever something is kept, and in all that was answered."""
        users = self.stack.folder / "hub" / "users.json"
        places = await self.canary.find_in_database(self.stack.database_url)
        places += await self.canary.find_in_valkey(self.stack.redis_url)
        places += self.canary.find_in_files(self.stack.folder, excluding=users)
        for answer in self.answers:
            places += [f"answer: {form}: {answer!r}" for form in self.canary.find_forms(answer)]
        return places


@pytest.fixture(scope="module")
def canary_stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[CanaryStack]:
    """A stack of its own, for its worker is killed, and its users' tokens are canaries."""
    canary = Canary()
    folder = tmp_path_factory.mktemp("canaries")
    users = [
        replace(user, token=canary.make_secret(f"{user.name}.{user.kind}"))
        for user in load_users(folder / "hub")
    ]
    write_private_file(folder / "hub" / "users.json", json.dumps([asdict(user) for user in users]))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in QUICK_SETTINGS.items():
            environment.setenv(name, value)
        with Stack(folder, report=print, durable=False) as stack:
            yield CanaryStack(stack, canary, users)


def run_failing_worker(
    stack: Stack, failpoint: str
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Run a worker that is killed at its first visit of a failpoint."""
    environment = stack.environment | {"HOLDFAST_FAILPOINT": f"{failpoint}:1:kill"}
    log = stack.folder / "logs" / "failing-worker.log"
    return run_program("service", "worker", environment=environment, log=log)


async def test_secrets_reach_their_jobs_and_nothing_keeps_them(canary_stack: CanaryStack) -> None:
    """Jobs that succeed, fail, are called off and refused leave no secret behind."""
    key = canary_stack.canary.make_secret("digest")
    good = await canary_stack.launch("python", "-c", TELLS_DIGEST, secrets={"KEY": key})
    bad = await canary_stack.launch("python", "-c", "raise SystemExit(3)")
    long = await canary_stack.launch("sleep", "600")
    carol = find_user(canary_stack.users, "carol").token
    unpaid = await canary_stack.launch("true", token=carol)
    call = await canary_stack.call("launch_inference", model="local/echo", inputs="Hi")
    await canary_stack.wait_until_running(long)
    await canary_stack.call("cancel_job", job_id=long)

    ended = [await canary_stack.wait_until_over(handle) for handle in (good, bad, long)]
    refused = await canary_stack.wait_until_over(unpaid, carol)
    await canary_stack.wait_until_over(call["structuredContent"]["job_id"])

    assert [view["state"] for view in ended] == ["succeeded", "failed", "cancelled"]
    assert (refused["state"], refused["reason"]) == ("failed", "insufficient_credits")
    log = (await canary_stack.call("job_logs", job_id=good))["structuredContent"]["lines"]
    assert log[0]["text"] == f"{hashlib.sha256(key.encode()).hexdigest()} True"
    assert await canary_stack.count_sealed_secrets() == 0
    assert await canary_stack.find_canaries() == []


@pytest.mark.parametrize("place", ["launch.lent", "launch.sent"])
async def test_a_worker_killed_with_secrets_in_its_hands_leaves_none(
    canary_stack: CanaryStack, place: str
) -> None:
    """Neither what waits for a worker, nor what a dead one left, can be read by who finds it."""
    with without_worker(canary_stack.stack):
        handles = [await canary_stack.launch("true") for _ in range(3)]
        assert await canary_stack.find_canaries() == []
        assert await canary_stack.count_sealed_secrets() == 3
        with run_failing_worker(canary_stack.stack, place) as worker:
            code = await to_thread.run_sync(lambda: worker.wait(40))
        left = await canary_stack.find_canaries()
    for handle in handles:
        await canary_stack.wait_until_over(handle)

    assert code == -signal.SIGKILL
    assert left == []
    assert await canary_stack.count_sealed_secrets() == 0
    assert await canary_stack.find_canaries() == []


async def test_what_is_sent_wrong_is_neither_kept_nor_repeated(canary_stack: CanaryStack) -> None:
    """A token in the wrong place is still somebody's token."""
    canary, message = canary_stack.canary, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    listing = json.dumps(message).encode()
    bearers = [f"Bearer {canary.make_secret('wrong')}", f"bearer  {canary.make_secret('wrong')}"]
    others = [
        f"Token {canary.make_secret('wrong')}",
        canary.make_secret("bare"),
        f"Basic {_basic_credentials(canary)}",
    ]
    for name in ("authorization", "x_hf_authorization"):
        for value in (*bearers, *others, f"Bearer {canary.make_secret('long')}{'A' * 100_000}"):
            await canary_stack.post(listing, **{name: value})
    await canary_stack.post(
        listing, authorization=f"Bearer {canary_stack.alice}", x_hf_authorization=bearers[0]
    )
    await canary_stack.post(listing, path=f"/mcp?access_token={canary.mark}")
    await canary_stack.post(listing, path=f"/{canary.mark}", cookie=f"token={canary.mark}")
    wrong: list[dict[str, Any]] = [
        {"secrets": canary.make_secret("flat")},
        {"secrets": [canary.make_secret("listed")]},
        {"secrets": {"KEY": [canary.make_secret("nested")]}},
        {"secrets": {"KEY": canary.make_secret("long") + "A" * 10_000}},
        {"secrets": {"KEY": canary.make_secret("nul") + "\0"}},
        {"secrets": {"NO NAME": canary.make_secret("misnamed")}},
        {"secrets": {"HF_TOKEN": canary.make_secret("reserved")}, "pass_token": True},
        {"pass_token": canary.make_secret("token")},
        {"token": canary.make_secret("unknown")},
        {"secrets": {"KEY": canary.make_secret("foreign")}, "namespace": "nobody"},
        {"secrets": {"KEY": canary.make_secret("nowhere")}, "workspace_id": "ws_none"},
        {"secrets": {"KEY": canary.make_secret("large")}, "env": {"A": "x" * 1_020_000}},
    ]
    launch: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
    for arguments in wrong:
        assert (await canary_stack.call("launch_job", **launch, **arguments)).get("isError"), (
            arguments
        )
    reader = find_user(canary_stack.users, "alice", LocalTokenKind.READ).token
    arguments = {"secrets": {"KEY": canary.make_secret("reader")}}
    assert (await canary_stack.call("launch_job", reader, **launch, **arguments))["isError"]
    for body in _malformed_bodies(canary):
        await canary_stack.post(body, authorization=f"Bearer {canary_stack.alice}")

    assert await canary_stack.find_canaries() == []


def _basic_credentials(canary: Canary) -> str:
    return base64.b64encode(f"hf:{canary.make_secret('basic')}".encode()).decode()


def _malformed_bodies(canary: Canary) -> list[bytes]:
    """Write bodies that are not what they should be, with a secret inside."""
    params: dict[str, Any] = {"name": "launch_job", "arguments": {"secrets": {"K": canary.mark}}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    whole = json.dumps(call).encode()
    return [
        whole[:-3],
        whole + whole,
        json.dumps([call]).encode(),
        json.dumps(call | {"jsonrpc": "1.0"}).encode(),
        json.dumps(call | {"method": 5}).encode(),
        json.dumps(call | {"params": [params]}).encode(),
        json.dumps(call | {"params": params | {"arguments": canary.mark}}).encode(),
        json.dumps(call | {"params": params | {"_meta": canary.mark}}).encode(),
        whole.replace(b'"launch_job"', b"5"),
        whole + b" " * (1 << 20),
        b"\xff" + whole,
    ]


async def test_a_canary_that_is_let_out_is_found_wherever_it_went(
    canary_stack: CanaryStack,
) -> None:
    """Or nothing above would have been shown by finding nothing."""
    # Another than the one that must not be found: the servers' files never forget it.
    canary = Canary()
    mark, log = canary.mark, anyio.Path(canary_stack.stack.folder / "logs" / "cage.log")
    deeds = {
        "hash": ("HSET", "field", mark),
        "list": ("RPUSH", "x", mark),
        "set": ("SADD", mark),
        "stream": ("XADD", "*", "field", mark),
        "string": ("SET", mark),
        "zset": ("ZADD", "1", mark),
    }
    connection: asyncpg.Connection = await asyncpg.connect(canary_stack.stack.database_url)
    async with UNTYPED_REDIS.from_url(canary_stack.stack.redis_url) as redis:
        try:
            await connection.execute("CREATE TABLE cage (row text, raw bytea)")
            await connection.execute("INSERT INTO cage VALUES ($1, $2)", mark, mark.encode())
            await connection.execute("INSERT INTO cage VALUES ($1)", _basic_credentials(canary))
            for kind, (command, *rest) in deeds.items():
                await redis.execute_command(command, f"cage:{kind}", *rest)
            await redis.set(f"cage:{mark}", "")
            await log.write_text("x" * (1 << 24) + mark.encode().hex())
            finds = await replace(
                canary_stack, canary=canary, answers=[mark.encode()]
            ).find_canaries()
        finally:
            await connection.execute("DROP TABLE IF EXISTS cage")
            await connection.close()
            await redis.delete(f"cage:{mark}", *(f"cage:{kind}" for kind in deeds))
            await log.unlink(missing_ok=True)

    assert {f"public.cage: {form}" for form in ("plain", "hex", "base64")} <= set(finds)
    assert {f"b'cage:{kind}': plain" for kind in deeds} <= set(finds)
    assert f"b'cage:{mark}': plain" in finds
    assert "logs/cage.log: hex" in finds
    assert any(find.startswith("answer: plain") for find in finds)
    assert any(find.startswith("postgres/") for find in finds), "a server's own files were not read"
