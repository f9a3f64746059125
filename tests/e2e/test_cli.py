"""The commands that a person types, as processes of their own."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from service.cli.main import main
from service.local.hub_emulator.users import load_users
from service.local.last_start import LastStart
from service.local.stack import Stack
from tests.support.paths import REPOSITORY
from tests.support.stack import without_worker

TIMEOUT_SECONDS = 120


def start_holdfast(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        cwd=REPOSITORY,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return whatever still runs on a data folder."""
    processes: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            home = process.environ().get("HOLDFAST_DATA_DIR", "")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in word for word in [*words, home]):
            processes.append(process)
    return processes


def has_no_processes(folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while left := processes_of(folder):
        if time.monotonic() > deadline:
            pytest.fail(f"still running: {[process.cmdline() for process in left]}")
        psutil.wait_procs(left, timeout=0.2)
    return True


@contextmanager
def run_stack(folder: Path) -> Generator["subprocess.Popen[str]"]:
    """Run `holdfast up` until it serves."""
    process = start_holdfast("up", "--data", str(folder))
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Serving MCP" in line:
                break
        else:
            pytest.fail(f"it ended with {process.wait()}")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)


def test_the_demo_shows_a_job_that_succeeds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The first five minutes of everybody who tries this."""
    process = start_holdfast(
        "demo",
        HOLDFAST_DATA_DIR=str(tmp_path),
        COLUMNS="80",
        OTEL_EXPORTER_OTLP_ENDPOINT="the collector of another program",
    )
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 0, output
    handle = re.search(r"job_[0-9a-z]{26}", output)
    assert handle
    assert f"WHERE job_id = read_handle('{handle[0]}')" in output
    assert f" {handle[0]} " in output[output.index("FROM v_job\n") :]
    assert "…" not in output
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", output), "a UUID, which no client knows"
    assert max(map(len, output.splitlines())) <= 80, output
    assert "Nothing is charged" in output
    assert "succeeded" in output
    assert "step 3 of 3" in output
    assert "SELECT" in output
    assert has_no_processes(tmp_path)


def test_ctrl_c_ends_everything_and_a_second_supervisor_is_told_so(tmp_path: Path) -> None:
    """Two on one folder would be two postmasters on one cluster."""
    with run_stack(tmp_path) as first:
        second = start_holdfast("up", "--data", str(tmp_path))
        output, _ = second.communicate(timeout=TIMEOUT_SECONDS)
        first.send_signal(signal.SIGINT)
        code = first.wait(timeout=TIMEOUT_SECONDS)

    assert second.returncode == 1
    assert "already running" in output
    assert code == 0
    assert has_no_processes(tmp_path)


def test_killing_the_supervisor_outright_leaves_no_orphan(tmp_path: Path) -> None:
    """Nobody comes back to find a GPU job polled by a process they cannot see."""
    with run_stack(tmp_path) as process:
        process.kill()

        assert has_no_processes(tmp_path)


def test_wrong_settings_are_named_and_their_values_are_not(tmp_path: Path) -> None:
    """A typo in a key must not end up in a log."""
    process = start_holdfast(
        "serve",
        HOLDFAST_DATABASE_URL="mysql://u:hunter2@h/d",
        HOLDFAST_REDIS_URL="redis://h",
        HOLDFAST_VAULT_KEYS="1:c2hvcnQ=",
        HOLDFAST_LEASE="soon",
    )
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 1
    for name in ("HOLDFAST_DATABASE_URL", "HOLDFAST_VAULT_KEYS", "HOLDFAST_LEASE"):
        assert name in output
    assert "hunter2" not in output
    assert "c2hvcnQ" not in output


def test_a_worker_on_a_database_that_was_not_migrated_says_what_to_do(
    postgres_url: str, tmp_path: Path
) -> None:
    """An operator reads one sentence, not a traceback."""
    key_ring = f"1:{base64.b64encode(os.urandom(32)).decode()}"
    bare = postgres_url.rsplit("/", 1)[0] + "/template1"
    process = start_holdfast(
        "worker",
        HOLDFAST_DATABASE_URL=bare,
        HOLDFAST_REDIS_URL="redis://127.0.0.1:1",
        HOLDFAST_VAULT_KEYS=key_ring,
    )
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 1
    assert "holdfast migrate" in output
    assert "Traceback" not in output


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    """A sentence for each thing that is wrong, and an exit code for scripts."""
    process = start_holdfast("doctor", "--help")
    process.communicate(timeout=TIMEOUT_SECONDS)
    bare = start_holdfast("doctor", HOLDFAST_REDIS_URL="", HOLDFAST_VAULT_KEYS="")
    output, _ = bare.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 0
    assert bare.returncode == 1
    assert "HOLDFAST_DATABASE_URL" in output


def test_connect_prints_configuration_that_can_be_pasted() -> None:
    """The JSON is valid as it stands, and names the endpoint and the token."""
    process = start_holdfast("connect", "--url", "https://jobs.example/mcp/", "--token", "hf_x")
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)

    cursor = output[output.index("~/.cursor/mcp.json") :]
    block = cursor[cursor.index("{") : cursor.index("\n}\n") + 2]
    assert json.loads(block)["mcpServers"]["holdfast"] == {
        "url": "https://jobs.example/mcp",
        "headers": {"Authorization": "Bearer hf_x"},
    }


def test_connect_names_the_service_that_runs_on_the_data_folder(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its port is another one whenever the usual one is taken, and its users are the Hub's."""
    codes = [main(["connect", "--data", str(stack.folder)])]
    output, errors = capsys.readouterr()
    codes += [main(["connect", "--data", str(stack.folder), "--token", "hf_other"])]
    with_token, _ = capsys.readouterr()

    assert codes == [0, 0]
    assert errors == ""
    assert f"{stack.url}/mcp" in output
    assert load_users(stack.folder / "hub")[0].token in output
    assert f"{stack.url}/mcp" in with_token
    assert "hf_other" in with_token
    assert load_users(stack.folder / "hub")[0].token not in with_token


@pytest.mark.parametrize(("hub_url", "has_token"), [(None, True), ("https://hub.example", False)])
def test_connect_gives_out_local_tokens_for_the_local_hub_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hub_url: str | None, *, has_token: bool
) -> None:
    """A real Hub would refuse them; there the client signs in. It also says that nothing runs."""
    token = load_users(tmp_path / "hub")[0].token
    LastStart("http://127.0.0.1:9", hub_url).save(tmp_path)

    code = main(["connect", "--data", str(tmp_path)])

    output, errors = capsys.readouterr()
    assert code == 0
    assert "http://127.0.0.1:9/mcp" in output
    assert (token in output) == has_token
    assert "No service runs" in errors


def test_the_doctor_looks_at_the_stack_that_runs_on_a_data_folder(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its database, Redis, service and Hub, and not those of the environment."""
    # The worker of a stack that has just started may not be connected yet.
    well = any(main(["doctor", "--data", str(stack.folder)]) == 0 for _ in range(30))
    output = capsys.readouterr().out
    with without_worker(stack):
        main(["doctor", "--data", str(stack.folder)])
    without = capsys.readouterr().out
    nothing = main(["doctor", "--data", str(tmp_path)])

    assert well, output
    for part in ("settings", "database", "migrations", "workers", "vault", "redis", "hub"):
        assert f" {part} " in output
    assert f"{stack.url}/health/ready answers 200" in output.replace("\n", "")
    assert "0 connected" in without
    assert nothing == 1
    assert "No Holdfast runs on" in capsys.readouterr().err
