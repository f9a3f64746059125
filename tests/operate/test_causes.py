"""What an operator reads when a dependency fails: the cause, in a sentence, and no secret."""

import base64
import os
import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from service.cli import doctor
from service.local.ports import find_free_port

PASSWORD = "canary-password"


@contextmanager
def run_refusing_postgres(sqlstate: str, message: str) -> Generator[int]:
    """Answer each connection as a server does that refuses it; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0".encode()
    answer = b"E" + struct.pack("!i", len(fields) + 4) + fields

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    if connection.recv(8)[4:] == struct.pack("!i", 80877103):  # asks for TLS
                        connection.sendall(b"N")
                        connection.recv(8)
                    connection.recv(4096)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs the doctor on these URLs, and returns one finding."""

    async def run(component: str, **variables: str) -> doctor.Finding:
        nowhere = f"127.0.0.1:{find_free_port()}"
        defaults = {
            "DATABASE_URL": f"postgresql://ada:{PASSWORD}@{nowhere}/holdfast",
            "REDIS_URL": f"redis://:{PASSWORD}@{nowhere}/0",
            "HUB_URL": f"http://{nowhere}",
            "VAULT_KEYS": f"1:{base64.b64encode(os.urandom(32)).decode()}",
        }
        for name, value in (defaults | variables).items():
            monkeypatch.setenv(f"HOLDFAST_{name}", value)
        [finding] = [each for each in await doctor.run_checks() if each.component == component]
        return finding

    return run


@pytest.mark.parametrize(
    ("sqlstate", "message", "sentence"),
    [
        ("28P01", 'password authentication failed for user "ada"', "refuses the login"),
        ("28000", "no pg_hba.conf entry for host, no encryption", "without TLS"),
        ("28000", "no pg_hba.conf entry for host", "pg_hba.conf"),
        ("3D000", 'database "holdfast" does not exist', "no database of that name"),
        ("53100", "could not extend file: No space left on device", "disk is full"),
        ("53300", "sorry, too many clients already", "no connection left"),
        ("57P03", "the database system is starting up", "starting up"),
        ("25006", "cannot execute in a read-only transaction", "takes no writes"),
        ("08P01", "unsupported startup parameter: statement_timeout", "HOLDFAST_POOLED"),
    ],
)
async def test_the_doctor_says_why_the_database_refuses(
    find: Callable[..., Any], sqlstate: str, message: str, sentence: str
) -> None:
    """`cannot be reached` sends a person to the network, when the password is wrong."""
    with run_refusing_postgres(sqlstate, message) as port:
        finding = await find(
            "database", DATABASE_URL=f"postgresql://ada:{PASSWORD}@127.0.0.1:{port}/holdfast"
        )

    assert not finding.is_ok
    assert message in finding.message
    assert sentence in finding.remedy
    assert PASSWORD not in finding.message + finding.remedy


@pytest.mark.parametrize(
    ("component", "variables", "sentence"),
    [
        ("database", {}, "Nothing listens"),
        (
            "database",
            {"DATABASE_URL": f"postgresql://ada:{PASSWORD}@no-host.invalid/holdfast"},
            "has no address",
        ),
        ("redis", {}, "Nothing listens"),
        ("redis", {"REDIS_URL": f"redis://:{PASSWORD}@no-host.invalid/0"}, "has no address"),
    ],
)
async def test_the_doctor_says_what_of_an_address_is_wrong(
    find: Callable[..., Any], component: str, variables: dict[str, str], sentence: str
) -> None:
    """Host, port and server are mended in different places."""
    finding = await find(component, **variables)

    assert not finding.is_ok
    assert sentence in finding.remedy
    assert PASSWORD not in finding.message + finding.remedy


async def test_the_doctor_says_that_redis_wants_another_password(
    find: Callable[..., Any], valkey_url: str
) -> None:
    """A real server, which has no password, is given one."""
    url = valkey_url.replace("redis://", f"redis://:{PASSWORD}@")

    finding = await find("redis", REDIS_URL=url)

    assert "refuses the login" in finding.remedy, finding
    assert PASSWORD not in finding.message + finding.remedy
