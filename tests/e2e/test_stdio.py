"""The whole local stack behind standard input and output, as Claude Desktop starts and ends it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from mcp import Client

from tests.e2e.test_cli import has_no_processes
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until
from tests.support.stdio import StdioProcess, connect_stdio, run_stdio

QUICK: Final = {"HOLDFAST_CALLS_PER_MINUTE": "0", "HOLDFAST_OUTPUTS_PATIENCE": "3s"}
"""Tests poll faster than people, and the local Hub is quick."""


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool through the client of the SDK, and return its structured result."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


def call_by_line(bridge: StdioProcess, tool: str, **arguments: Any) -> Mapping[str, Any]:
    """Call a tool by a line, and return its structured result."""
    answer = bridge.ask("tools/call", {"name": tool, "arguments": arguments})
    assert "result" in answer, answer
    assert not answer["result"].get("isError"), answer
    fields: Mapping[str, Any] = answer["result"]["structuredContent"]
    return fields


def read_log(log: Path) -> str:
    """Return what the bridge has written for the person."""
    return log.read_text()


async def run_job(client: Client, *command: str) -> str:
    """Launch a job, wait for it, and return its handle."""
    launched = await call(client, "launch_job", image="python:3.12", command=list(command))
    handle = str(launched["job_id"])
    done = False
    while not done:  # each wait is bounded by the service, and the test by its time limit
        waited = await call(client, "wait_for_jobs", job_ids=[handle], until="terminal")
        done = waited["done"]
    return handle


async def test_a_client_that_knows_only_programs_runs_a_job_to_its_result(tmp_path: Path) -> None:
    """The first request waits until the stack is up, and nothing is left at the end."""
    folder, log = tmp_path / "data", tmp_path / "stdio.log"

    arguments = ["--local", "--data", str(folder), "--allow-folder", str(REPOSITORY / "docs")]
    async with connect_stdio(arguments, log=log, environment=QUICK) as client:
        upload = await call(client, "upload_file", path="clients.md")
        handle = await run_job(client, "python", "-c", "print('from stdio')")
        result = await call(client, "job_result", job_id=handle)
        logs = await call(client, "job_logs", job_id=handle)

    assert upload["upload_id"].startswith("upload_")
    assert result["state"] == "succeeded"
    assert [line["text"] for line in logs["lines"]] == ["from stdio"]
    assert has_no_processes(folder)
    assert "Traceback" not in read_log(log)


@pytest.mark.timeout(400)  # it starts the stack again and again
def test_a_bridge_that_is_killed_leaves_nothing_running_and_nothing_lost(tmp_path: Path) -> None:
    """While it starts, and while a job runs; the next one goes on with the same folder."""
    folder, log = tmp_path / "data", tmp_path / "stdio.log"
    arguments = ("--local", "--data", str(folder))
    sleeper = f"import time; time.sleep(600)  # {folder}"

    with run_stdio(*arguments, log=log, environment=QUICK) as bridge:
        wait_until(lambda: "Bringing the database up to date." in log.read_text())
        bridge.process.kill()
        bridge.process.wait()
        assert has_no_processes(folder)
    with run_stdio(*arguments, log=log, environment=QUICK) as bridge:
        launched = call_by_line(
            bridge, "launch_job", image="python:3.12", command=["python", "-c", sleeper]
        )
        handle = launched["job_id"]

        def is_running() -> bool:
            [view] = call_by_line(bridge, "job_status", job_ids=[handle])["jobs"]
            return bool(view["state"] == "running")

        wait_until(is_running)
        bridge.process.kill()
        bridge.process.wait()
        assert has_no_processes(folder)
    with run_stdio(*arguments, log=log, environment=QUICK) as bridge:
        [view] = call_by_line(bridge, "job_status", job_ids=[handle])["jobs"]
        bridge.close_input()
        code = bridge.process.wait(60)

    assert view["job_id"] == handle
    assert code == 0
    assert has_no_processes(folder)


@pytest.mark.timeout(400)  # it starts the stack again and again
def test_a_second_bridge_uses_the_stack_of_the_first_and_outlives_it(tmp_path: Path) -> None:
    """A client starts one for each window; the jobs are the same."""
    folder, log = tmp_path / "data", tmp_path / "stdio.log"
    arguments = ("--local", "--data", str(folder))

    with (
        run_stdio(*arguments, log=log, environment=QUICK) as first,
        run_stdio(*arguments, log=tmp_path / "second.log", environment=QUICK) as second,
    ):
        launched = call_by_line(
            first, "launch_job", image="python:3.12", command=["true"], labels={"by": "first"}
        )
        listed = call_by_line(second, "list_jobs")
        first.close_input()
        first.process.wait(60)
        wait_until(lambda: "starting one here" in (tmp_path / "second.log").read_text())
        again = call_by_line(second, "list_jobs")
        second.close_input()
        code = second.process.wait(60)

    assert [job["job_id"] for job in listed["jobs"]] == [launched["job_id"]]
    assert [job["job_id"] for job in again["jobs"]] == [launched["job_id"]]
    assert code == 0
    assert has_no_processes(folder)


@pytest.mark.parametrize("moment", ["at once", "while it starts"])
def test_an_input_that_ends_before_the_stack_is_up_ends_everything(
    tmp_path: Path, moment: str
) -> None:
    """A client may give up first."""
    folder, log = tmp_path / "data", tmp_path / "stdio.log"
    with run_stdio("--local", "--data", str(folder), log=log, environment=QUICK) as bridge:
        if moment == "while it starts":
            wait_until(lambda: "Starting Postgres." in log.read_text())
        bridge.close_input()
        code = bridge.process.wait(60)

    assert code == 0
    assert has_no_processes(folder)
    assert "Traceback" not in log.read_text()


def test_a_stack_that_cannot_start_says_why_in_the_answer(tmp_path: Path) -> None:
    """Nobody reads the log of a program that a client has started."""
    (tmp_path / "data").write_text("a file in the place of the folder")
    arguments = ("--local", "--data", str(tmp_path / "data"))
    with run_stdio(*arguments, log=tmp_path / "stdio.log") as bridge:
        answer = bridge.ask("initialize", {})
        bridge.close_input()
        code = bridge.process.wait(60)

    assert "is not a folder" in answer["error"]["message"]
    assert "--data" in answer["error"]["message"]
    assert code == 1
