"""A process that is told to stop ends before its supervisor kills it, whatever holds it up."""

import asyncio
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil

from schema.db.database import Database
from service.local.ports import find_free_port
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.crash.scenario import ScenarioContext
from tests.operate.stops import StopReport, run_loaded_servers, stop_process, stop_workers
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually


async def test_a_process_ends_within_its_grace_under_load_and_while_its_servers_hang(
    tmp_path: Path,
) -> None:
    """A query, a rollback and the end of a connection would each wait for ever.

    `python3 -m tests.operate.stops` makes 200 stops.
    """
    under_load, hanging = StopReport(), StopReport()
    async with run_loaded_servers(tmp_path) as servers:
        stage = servers.stage
        await stop_workers(stage, under_load, stops=10, lanes=3)
        port = find_free_port()
        public = {"HOLDFAST_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        service = await stage.fork_server.start(
            "service", port, environment=stage.environment | public
        )
        worker = await stage.fork_server.start("worker", environment=stage.environment)
        await eventually(lambda: has_sent_items(stage), bool)  # so that it has rows to hand back
        await eventually(lambda: call_tool(stage, port), bool)
        with frozen(servers.postgres, servers.valkey):
            calling = asyncio.create_task(call_tool(stage, port))
            starting = await stage.fork_server.start("worker", environment=stage.environment)
            await asyncio.gather(
                *(stop_process(process, hanging) for process in (starting, service, worker))
            )
            await calling
        log = "".join(
            (stage.fork_server.folder / f"{role}.log").read_text("utf-8")
            for role in ("worker", "service")
        )

    # Nothing breaks because it cannot be written.
    assert [line for line in log.splitlines() if ".broken" in line] == []
    assert under_load.late_count == hanging.late_count == 0, (under_load, hanging)
    assert under_load.exit_codes.keys() <= {0, -signal.SIGTERM}, under_load
    # What hangs may need the last resort, on a machine that is busy with other things.
    assert hanging.exit_codes.keys() <= {0, -signal.SIGTERM, 1}, hanging
    assert "worker.stopped" in log or hanging.exit_codes[1]


async def test_a_pool_closes_although_its_server_hangs(tmp_path: Path) -> None:
    """The driver itself would wait for an answer to its farewell."""
    postgres = Postgres(tmp_path / "postgres", durable=False)
    try:
        url = await asyncio.to_thread(postgres.start)
        with anyio.fail_after(HTTP_TIMEOUT_SECONDS), ExitStack() as freezing:
            async with Database(url, application_name="tests") as database:
                async with database.transaction() as tx:
                    assert await tx.fetchval("SELECT 1") == 1
                freezing.enter_context(frozen(postgres))
    finally:
        postgres.stop()


async def has_sent_items(stage: ScenarioContext) -> bool:
    async with stage.database.transaction() as tx:
        sent: bool = await tx.fetchval(
            "SELECT EXISTS (SELECT FROM batch_item WHERE state = 'sent')"
        )
        return sent


async def call_tool(stage: ScenarioContext, port: int) -> bool:
    """Call a tool that reads the database; say whether it was answered."""
    message: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "list_jobs", "arguments": {}},
    }
    headers = {
        "authorization": f"Bearer {stage.user.token}",
        "accept": "application/json, text/event-stream",
    }
    async with AsyncHttpClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http:
        with suppress(httpx2.TransportError):
            answer = await http.post(f"http://127.0.0.1:{port}/mcp", json=message)
            return answer.is_success
    return False


@contextmanager
def frozen(*servers: Postgres | Valkey) -> Generator[None]:
    """Stop servers from running at all: they accept connections, and never answer."""
    processes: list[psutil.Process] = []
    for server in servers:
        child = server._child  # pyright: ignore[reportPrivateUsage]  # to freeze it
        assert child is not None
        assert child.pid is not None
        process = psutil.Process(child.pid)
        processes += [process, *process.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
