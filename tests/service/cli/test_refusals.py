"""Commands in surroundings that do not fit: each ends in one sentence that says what to do."""

import io
import os
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from schema.common.http import CannotListen, open_listener
from service.cli.main import main
from service.local.processes.os_account import OsAccount
from tests.support.paths import REPOSITORY

TIMEOUT_SECONDS = 120


def run_refused(*arguments: str | Path) -> tuple[int, str]:
    """Run a command that is to be refused, and return its exit code and its errors."""
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(io.StringIO()):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:  # argparse ends the process
            code = int(ending.code or 0)
    return code, " ".join(errors.getvalue().split())


def run_refused_as(account: OsAccount | None, *arguments: str | Path) -> tuple[int, str]:
    """Run a command as another account, and return its exit code and its errors."""
    command = [sys.executable, "-m", "service", *map(str, arguments)]
    run = subprocess.run(
        account.wrap_command(*command) if account else command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert "Traceback" not in run.stderr
    return run.returncode, " ".join(run.stderr.split())


@pytest.mark.parametrize("command", ["demo", "up", "hub", "connect"])
def test_a_file_in_the_place_of_the_data_folder_is_named(tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.touch()

    for folder in (file, file / "below"):
        code, errors = run_refused(command, "--data", folder)

        assert code == 1
        assert str(folder) in errors
        assert "--data" in errors


def test_a_data_folder_of_another_account_is_named(
    tmp_path: Path, ordinary_account: OsAccount | None
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 54321, 54321)
    else:
        folder.chmod(0o555)

    code, errors = run_refused_as(ordinary_account, "up", "--data", folder / "below")

    assert code == 1
    assert f"This account may not write to {folder / 'below'}" in errors
    assert "--data" in errors


def test_connect_to_a_folder_that_nothing_has_used_creates_nothing(tmp_path: Path) -> None:
    """A mistyped name must not become a folder with users of its own."""
    folder = tmp_path / "typo"

    code, errors = run_refused("connect", "--data", folder)

    assert code == 1
    assert f"up --data {folder}" in errors
    assert "--url" in errors
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments", ["up --hub huggingface.co", "up --port 99999", "up --port 0", "hub --port -1"]
)
def test_a_wrong_option_is_refused_before_anything_starts(tmp_path: Path, arguments: str) -> None:
    command, *options = arguments.split()

    code, errors = run_refused(command, *options, "--data", tmp_path / "data")

    assert code == 2
    assert f"argument {options[0]}" in errors
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["up", "hub"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, errors = run_refused(command, "--port", str(port), "--data", tmp_path)

    assert code == 1
    assert errors.endswith(f"Port {port} is taken. Choose another one with --port.")


def test_a_port_that_the_system_reserves_is_named(
    tmp_path: Path, ordinary_account: OsAccount | None
) -> None:
    """Only an account with a special right may listen on port 80."""
    first_free_port = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first_free_port.exists() or int(first_free_port.read_text()) <= 80:
        pytest.skip("this machine reserves no port")

    code, errors = run_refused_as(ordinary_account, "up", "--port", "80", "--data", tmp_path)

    assert code == 1
    assert "may not listen on port 80" in errors
    assert "--port" in errors


def test_an_address_of_another_machine_is_named() -> None:
    """192.0.2.1 is an address of documentation, which no machine has (RFC 5737)."""
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1, port 0: .*0\.0\.0\.0 every network"):
        open_listener("192.0.2.1", 0)


def test_no_command_at_all_is_answered_with_all_of_them() -> None:
    code, errors = run_refused()

    assert code == 2
    assert "Start with `demo`" in errors
