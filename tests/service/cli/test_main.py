"""What each command loads, and what the production image has of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

TIMEOUT_SECONDS = 40
NO_SETTINGS = {"HOLDFAST_DATABASE_URL": "", "HOLDFAST_REDIS_URL": "", "HOLDFAST_VAULT_KEYS": ""}
PRODUCTION_COMMANDS = {
    "serve": "service.app",
    "worker": "workers.worker",
    "migrate": "schema.db.revisions",
    "vault rotate": "schema.accounts.key_rotation",
    "doctor": "service.cli.doctor",
    "stdio https://a.example --token x": "service.cli.stdio.command",
    "--help": "service.cli.main",
}
"""The commands of the production image, and a module that each of them loads."""


def run_holdfast(folder: Path, command: str, **environment: str) -> tuple[int, str, str]:
    """Run a command in a folder, and return its exit code, its output and its errors."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL"}}
    run = subprocess.run(
        [sys.executable, "-m", "service", *command.split()],
        cwd=folder,
        env=inherited | NO_SETTINGS | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the Dockerfile copies, without what .dockerignore excludes from them."""
    root = tmp_path_factory.mktemp("image")
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    folders = {line.removeprefix("!") for line in lines if line.startswith("!")}
    excluded = {REPOSITORY / line for line in lines if line and line[0] not in "!#*"}

    def is_left_out(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(parent, name) in excluded or name == "__pycache__"]

    for folder in folders - {"requirements.runtime.lock"}:
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=is_left_out)
    return root


@pytest.mark.parametrize(("command", "module"), PRODUCTION_COMMANDS.items())
def test_a_production_command_loads_nothing_of_the_local_stack(command: str, module: str) -> None:
    """An emulator that takes any program as a job has no place in a process that serves others."""
    # A doctor whose environment names no database looks for a local stack.
    deployment = {"HOLDFAST_DATABASE_URL": "postgresql://127.0.0.1:9/none"}
    settings = deployment if command == "doctor" else {}
    # Python writes down each module that it imports, also after the worker's exec.
    _, _, errors = run_holdfast(REPOSITORY, command, PYTHONPROFILEIMPORTTIME="1", **settings)

    loaded = {line.rpartition("|")[2].strip() for line in errors.splitlines() if "|" in line}
    assert module in loaded
    assert not [name for name in loaded if name.startswith(("service.local", "service.cli.local"))]


@pytest.mark.parametrize(
    ("command", "slow_packages"),
    [
        ("serve", {"alembic"}),
        ("worker", {"alembic", "mcp"}),
        ("connect --data", {"alembic", "mcp", "sqlalchemy"}),
    ],
)
def test_a_command_does_not_wait_for_packages_that_others_need(
    command: str, slow_packages: set[str], tmp_path: Path
) -> None:
    """Each takes a tenth of a second or more; `up` and `demo` import what `connect` does first."""
    if command.endswith("--data"):
        command += f" {tmp_path}"
    _, _, errors = run_holdfast(REPOSITORY, command, PYTHONPROFILEIMPORTTIME="1")

    loaded = {line.rpartition("|")[2].strip() for line in errors.splitlines() if "|" in line}
    assert loaded.isdisjoint(slow_packages)
    assert loaded & {"service.cli.local", "workers.worker", "service.app"}


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "vault rotate", "doctor"])
def test_the_image_has_what_a_production_command_needs(image: Path, command: str) -> None:
    """The first thing it misses is its settings, and not a module."""
    exit_code, output, errors = run_holdfast(image, command)

    assert not (image / "service" / "local").exists()
    assert exit_code == 1
    assert "HOLDFAST_DATABASE_URL" in output + errors
    assert "Traceback" not in errors


def test_the_image_says_which_commands_there_are(image: Path) -> None:
    exit_code, output, _ = run_holdfast(image, "--help")

    assert exit_code == 0
    assert "Serve the MCP tools over HTTP." in output
    assert "Run everything on this machine until Ctrl-C." in output


@pytest.mark.parametrize("command", ["demo", "up", "hub"])
def test_the_image_says_where_a_local_command_can_be_run(image: Path, command: str) -> None:
    """Whoever types it in a container reads one sentence, not a traceback."""
    exit_code, output, errors = run_holdfast(image, command, COLUMNS="200")

    assert (exit_code, output) == (1, "")
    assert errors == (
        f"`holdfast {command}` needs the local stack, which this image leaves out: "
        f"run `python3 -m service {command}` in a clone of the project.\n"
    )


def test_the_image_connects_a_client_to_a_service_by_its_url(image: Path) -> None:
    """`connect` needs the local stack only for the token of a local user."""
    exit_code, output, _ = run_holdfast(image, "connect --url https://jobs.example")
    refused, _, errors = run_holdfast(image, "connect", COLUMNS="200")

    assert exit_code == 0
    assert "https://jobs.example/mcp" in output
    assert refused == 1
    assert errors.endswith("leaves out: name the service with --url.\n")


def test_the_test_command_passes_every_option_on_to_pytest() -> None:
    """`python3 -m service test -k NAME -x` is the first thing that a developer types."""
    options = "test --collect-only -q -k within_the_limits -x tests/schema/common/test_durations.py"

    code, output, errors = run_holdfast(REPOSITORY, options)

    assert code == 0, output + errors
    assert "deselected" in output
