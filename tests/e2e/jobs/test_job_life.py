"""One job from the tool call to its result, through Postgres, a worker and the Hub emulator."""

from datetime import timedelta
from pathlib import Path

import asyncpg
import psutil
import pytest

from schema.common import ids
from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from tests.support.polling import eventually
from tests.support.stack import McpCaller

pytestmark = pytest.mark.xdist_group("stack")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_job_is_launched_run_and_read_back(alice: McpCaller) -> None:
    """The first promise of all: what was asked for is done, and what it said can be read."""
    handle = await alice.launch(
        "python", "-c", "import os; print('out', os.environ['A1'])", env={"A1": "x"}
    )

    view = await alice.wait_until_finished(handle)

    assert (view["state"], view["exit_code"], view["upstream"]) == ("succeeded", 0, "stopped")
    assert await alice.read_log(handle) == ["out x"]
    assert (await alice.call_tool("job_result", job_id=handle))["state"] == "succeeded"


async def test_a_job_of_half_a_second_costs_a_started_minute(alice: McpCaller) -> None:
    """As the Hub bills it; the workspace has that much less, and nothing is held any more."""
    workspace = await alice.call_tool("create_workspace", name="a minute", budget_usd=1)
    handle = await alice.launch(
        "sleep", "0.5", flavor="t4-medium", timeout="10m", workspace_id=workspace["workspace_id"]
    )

    view = await alice.wait_until_finished(handle)

    assert (view["cost"]["so_far_usd"], view["cost"]["final"]) == (0.01, True)
    status = await alice.call_tool("workspace_status", workspace_id=workspace["workspace_id"])
    assert (status["spent_usd"], status["held_usd"], status["left_usd"]) == (0.01, 0, 0.99)


async def test_a_job_that_exits_3_fails_with_its_last_words(alice: McpCaller) -> None:
    """A failure names its reason and shows the evidence, in one call."""
    handle = await alice.launch("python", "-c", "print('about to fail'); raise SystemExit(3)")

    view = await alice.wait_until_finished(handle)

    assert (view["state"], view["reason"], view["exit_code"]) == ("failed", "exit_nonzero", 3)
    assert view["log_tail"] == ["about to fail"]


async def test_a_job_that_outlives_its_timeout_fails_as_timed_out(alice: McpCaller) -> None:
    """The bill is bounded by what was asked for."""
    handle = await alice.launch("sleep", "600", timeout="1s")

    view = await alice.wait_until_finished(handle)

    assert (view["state"], view["reason"]) == ("failed", "timed_out")


async def test_a_cancelled_job_stops_within_seconds_and_its_process_is_gone(
    alice: McpCaller,
) -> None:
    """Cancel is final at once, and says `stopping` until the work is seen to have stopped."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    handle = await alice.launch("python", "-c", script)
    await alice.wait_until(handle, lambda view: view["stage"] == "RUNNING")
    lines = await eventually(lambda: alice.read_log(handle), bool)
    pid = int(lines[0])
    assert is_running(pid)

    cancelled = await alice.call_tool("cancel_job", job_id=handle)
    again = await alice.call_tool("cancel_job", job_id=handle)
    view = await alice.wait_until(
        handle, lambda view: view["upstream"] == "stopped", timeout=timedelta(seconds=5)
    )

    assert (cancelled["state"], again["state"], view["state"]) == ("cancelled",) * 3
    assert not is_running(pid)


async def test_an_inference_call_leaves_its_answer_as_the_result(alice: McpCaller) -> None:
    """A call is a job like any other: a handle, a state, a result that stays."""
    launched = await alice.call_tool("launch_inference", model="local/echo", inputs="Say hello.")

    view = await alice.wait_until_finished(launched["job_id"])
    result = await alice.call_tool("job_result", job_id=launched["job_id"])

    assert view["state"] == "succeeded"
    assert "Say hello." in result["result"]["text"]


async def test_a_launch_is_answered_while_no_worker_runs_and_done_when_one_comes(
    stack: Stack, alice: McpCaller
) -> None:
    """The handle is committed before anybody works on it; a missing worker delays, no more."""
    stack.stop_worker()
    handle = await alice.launch("python", "-c", "print('at last')")
    queued = await alice.read_job(handle)

    stack.start_worker()
    view = await alice.wait_until_finished(handle)

    assert queued["state"] == "queued"
    assert view["state"] == "succeeded"


async def test_a_job_outlives_the_worker_that_launched_it(
    stack: Stack, alice: McpCaller, tmp_path: Path
) -> None:
    """Nothing about a job is in a process: another worker sees it through."""
    restarted = tmp_path / "restarted"
    script = f"until [ -e {restarted} ]; do sleep 0.05; done; echo through"
    handle = await alice.launch("sh", "-c", script)
    await alice.wait_until(handle, lambda view: view["state"] == "running")

    stack.stop_worker()
    stack.start_worker()
    restarted.touch()
    view = await alice.wait_until_finished(handle)

    assert view["state"] == "succeeded"
    assert await alice.read_log(handle) == ["through"]


async def test_every_row_stands_under_the_subject_and_tells_the_whole_life(
    stack: Stack, alice: McpCaller
) -> None:
    """An analyst needs nothing but SQL."""
    handle = await alice.launch("true")
    await alice.wait_until_finished(handle)

    connection = await asyncpg.connect(stack.database_url)
    try:
        job_id = ids.parse_handle(ids.HandleKind.JOB, handle)
        row = await connection.fetchrow("SELECT * FROM job WHERE id = $1", job_id)
        events = await connection.fetch(
            "SELECT kind, state FROM job_event WHERE job_id = $1 ORDER BY version", job_id
        )
        unowned = await connection.fetch("SELECT * FROM v_unowned")
    finally:
        await connection.close()

    assert row is not None
    assert (row["subject_id"], row["state"]) == (
        load_users(stack.folder / "hub")[0].id,
        "succeeded",
    )
    kinds = [event["kind"] for event in events]
    assert [kind for kind in kinds if kind != "stage"] == ["created", "claimed", "bound", "ended"]
    assert unowned == []


async def test_no_token_stands_in_any_log_or_in_redis(stack: Stack, alice: McpCaller) -> None:
    """Secrets stay sealed, also where nobody looks."""
    await alice.wait_until_finished(await alice.launch("true"))
    token = alice.connection.token
    assert token is not None

    logs = {
        path.name: path.read_text(errors="replace") for path in _list_files(stack.folder / "logs")
    }

    assert logs
    assert [name for name, text in logs.items() if token in text] == []


def _list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
