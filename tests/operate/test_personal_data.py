"""An operator exports what is stored of a person, and forgets them, beside a running service."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from service.local.stack import Stack
from tests.support.paths import REPOSITORY
from tests.support.stack import McpCaller

NAME = "alice"


@pytest.fixture
def run_command(stack: Stack) -> "CommandRunner":
    """Run a command of Holdfast with the settings of the stack."""
    return CommandRunner(stack)


class CommandRunner:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __call__(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=REPOSITORY,
            env=self._stack.environment | {"COLUMNS": "200"},
            input=answer,
            capture_output=True,
            text=True,
            timeout=45,
            check=False,
        )


async def test_a_person_is_exported_and_forgotten_and_can_come_back(
    alice: McpCaller, run_command: CommandRunner, tmp_path: Path
) -> None:
    """What runs is stopped first; afterwards their handles are like any that never were."""
    done = await alice.launch("echo", "a line of the log")
    await alice.wait_until_finished(done)
    running = await alice.launch("sleep", "600")
    await alice.wait_until(running, lambda view: view["state"] == "running")
    archive = tmp_path / "alice.zip"

    exported = run_command("export", NAME, str(archive))
    again = run_command("export", NAME, str(archive))
    refused = run_command("forget", NAME, "--yes")
    doubted = run_command("forget", NAME, "--cancel", answer="bob")
    forgotten = run_command("forget", NAME, "--cancel", answer=NAME)

    assert exported.returncode == 0, exported.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    with ZipFile(archive) as files:
        jobs = [json.loads(line) for line in files.read("jobs.jsonl").splitlines()]
        logs = files.read("logs.jsonl").decode()
    assert {done, running} <= {job["handle"] for job in jobs}
    assert "a line of the log" in logs
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert os.listdir(tmp_path) == ["alice.zip"]  # noqa: PTH208  # one look, and no draft
    assert "Add --cancel" in refused.stderr
    assert "That is not the name" in doubted.stderr
    assert forgotten.returncode == 0, forgotten.stderr
    answers = await alice.call_tool("job_status", job_ids=[done, running])
    assert {each["code"] for each in answers["errors"]} == {"NotFound"}
    anew = await alice.launch("echo", "anew")
    assert (await alice.wait_until_finished(anew))["state"] == "succeeded"
    listed = await alice.call_tool("list_jobs")
    assert [job["job_id"] for job in listed["jobs"]] == [anew]
