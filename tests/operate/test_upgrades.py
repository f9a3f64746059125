"""A release is replaced by the next one, and no call fails meanwhile."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from schema.common.process.background import run_in_background
from schema.db.database import Database
from tests.operate.deployments import PATIENCE, Deployment, read_health
from tests.operate.releases import make_contracting_release, make_next_release
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.mcp.client import post_message
from tests.support.polling import eventually

TOO_OLD: Final = "This release is older than the database: it is of revision 0001"


@dataclass
class Load:
    """Calls that follow one another until they are stopped: a launch, then a look at it."""

    token: str
    url: str
    handles: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Call without an end."""
        while True:
            launched = await self.call(
                "launch_job", image="python:3.12", command=["true"], timeout="5m"
            )
            if launched is not None:
                self.handles.append(launched["job_id"])
                await self.call("job_status", job_ids=self.handles[-3:])

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any] | None:
        """Call a tool; whatever is no result is a failure."""
        url = self.url
        try:
            answer = await post_message(
                url,
                "tools/call",
                {"name": tool, "arguments": arguments},
                authorization=f"Bearer {self.token}",
            )
            result = answer.json()["result"]
        except (httpx2.TransportError, KeyError, ValueError) as error:
            self.failures.append(repr(error))
            return None
        if result.get("isError"):
            self.failures.append(str(result))
            return None
        self.calls[url] += 1
        content: dict[str, Any] = result["structuredContent"]
        return content


@pytest.mark.timeout(600)
async def test_no_call_fails_while_a_release_is_replaced_and_a_forgotten_one_says_that_it_is_old(
    deployment: Deployment, hub: HubEmulatorProcess, database: Database, tmp_path: Path
) -> None:
    """The order of docs/operate.md: migrate, start the new workers and services, end the old."""
    next_release = make_next_release(tmp_path / "next")
    contracting = make_contracting_release(tmp_path / "contracting", next_release)
    old_url = await deployment.start_service("old-service")
    old_worker = deployment.start_worker("old-worker")
    token = hub.api().token
    assert isinstance(token, str)
    load = Load(token, old_url)

    async with run_in_background(load.run()):
        await eventually(lambda: count_ended(database), lambda ended: ended > 2, timeout=PATIENCE)
        migrated = await asyncio.to_thread(deployment.run, "migrate", release=next_release)
        before = await count_ended(database)
        await eventually(
            lambda: count_ended(database), lambda ended: ended > before + 2, timeout=PATIENCE
        )
        new_url = await deployment.start_service("new-service", release=next_release)
        new_worker = deployment.start_worker("new-worker", release=next_release)
        load.url = new_url
        await eventually(
            lambda: asyncio.to_thread(lambda: load.calls[new_url]), lambda calls: calls > 5
        )
        rolled_back = await asyncio.to_thread(deployment.run, "migrate")
        contracted = await asyncio.to_thread(deployment.run, "migrate", release=contracting)
        old_code = await asyncio.to_thread(old_worker.wait, PATIENCE.total_seconds())
        old_health = await eventually(
            lambda: read_health(old_url), lambda health: health[0] == 503, timeout=PATIENCE
        )
    new_health = await read_health(new_url)
    refused = Load(token, old_url)
    await refused.call("list_jobs")
    await eventually(
        lambda: count_ended(database),
        lambda ended: ended >= len(load.handles),
        timeout=PATIENCE,
    )
    commands = {
        command: await asyncio.to_thread(deployment.run, command)
        for command in ("migrate", "worker", "doctor")
    }

    assert load.failures == []
    assert min(load.calls[old_url], load.calls[new_url]) > 5
    assert (migrated.returncode, rolled_back.returncode, contracted.returncode) == (0, 0, 0)
    assert "0002 of a later release, and this one runs on it" in rolled_back.stdout
    assert (old_code, new_worker.poll()) == (1, None)
    for text in (
        old_health[1],
        refused.failures[0],
        deployment.read_log("old-worker"),
        *(done.stdout + done.stderr for done in commands.values()),
    ):
        assert TOO_OLD in " ".join(text.split())
    assert {done.returncode for done in commands.values()} == {1}
    assert new_health[0] == 200
    for name in ("old-service", "old-worker", "new-service", "new-worker"):
        log = deployment.read_log(name)
        assert "loop.broken" not in log
        assert "Traceback" not in log


async def count_ended(database: Database) -> int:
    """Count the jobs that have succeeded."""
    async with database.transaction() as tx:
        ended: int = await tx.fetchval("SELECT count(*) FROM job WHERE state = 'succeeded'")
    return ended
