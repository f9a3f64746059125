"""A private Valkey that is there when it is needed."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from service.local.servers.valkey import Valkey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "valkey"


@pytest.fixture
def private_valkey(folder: Path) -> Iterator[Valkey]:
    server = Valkey(folder)
    yield server
    server.stop()


def _send_command(url: str, question: str) -> str:
    """Return the first line of the server's answer to one command."""
    place = urlsplit(url)
    with (
        socket.create_connection(("127.0.0.1", place.port or 0), 5) as connection,
        connection.makefile("rw", encoding="ascii", newline="\r\n") as lines,
    ):
        if place.password:
            lines.write(f"AUTH {place.password}\r\n")
            lines.flush()
            assert lines.readline() == "+OK\r\n"
        lines.write(f"{question}\r\n")
        lines.flush()
        return lines.readline().rstrip()


def _process(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "valkey.pid").read_text()))


def test_it_answers_only_who_knows_the_password(private_valkey: Valkey) -> None:
    """On a shared machine the loopback interface is everybody's."""
    url = private_valkey.start()

    assert _send_command(url, "PING") == "+PONG"
    assert _send_command(url.replace(f":{urlsplit(url).password}@", ""), "PING").startswith(
        "-NOAUTH"
    )


def test_a_restart_keeps_the_address_and_what_was_queued(private_valkey: Valkey) -> None:
    """A deployment loses no wake-up that was already sent."""
    url = private_valkey.start()
    _send_command(url, "SET sent yes")
    private_valkey.stop()

    assert private_valkey.start() == url
    assert _send_command(url, "EXISTS sent") == ":1"


def test_it_stops_without_a_trace(private_valkey: Valkey, folder: Path) -> None:
    private_valkey.start()
    process = _process(folder)

    private_valkey.stop()

    assert not process.is_running()
    assert not (folder / "valkey.pid").exists()


def test_a_server_that_lost_its_supervisor_is_stopped_before_the_next_starts(
    private_valkey: Valkey, folder: Path
) -> None:
    """Two servers that append to one file would ruin it."""
    private_valkey.start()
    orphan = _process(folder)
    successor = Valkey(folder)

    try:
        successor.start()
        assert private_valkey.exit_code == 0
        assert _process(folder) != orphan
    finally:
        successor.stop()


def test_it_starts_again_after_kill_9(private_valkey: Valkey, folder: Path) -> None:
    """A server that was killed leaves its pid file; that must not look like a server."""
    url = private_valkey.start()
    process = _process(folder)
    process.send_signal(signal.SIGKILL)
    process.wait(5)

    assert private_valkey.start() == url


def test_a_port_that_was_taken_meanwhile_is_left_to_its_new_owner(private_valkey: Valkey) -> None:
    port = urlsplit(private_valkey.start()).port
    private_valkey.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()

        assert urlsplit(private_valkey.start()).port != port
