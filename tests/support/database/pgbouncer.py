"""A PgBouncer in transaction mode before a Postgres: each transaction gets another connection."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from schema.common.http import LOOPBACK
from service.local.ports import find_free_port
from tests.support.polling import wait_until

_NOBODY = 65534
"""PgBouncer does not run as root."""
_STOP_SECONDS = 10


def find_pgbouncer() -> str:
    """Return the program that Debian or Ubuntu installs, or skip the test."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no PgBouncer (apt install pgbouncer)")
    return program


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def run_pgbouncer(postgres_url: str, *, pool_size: int, **options: str) -> Generator[str]:
    """Run a PgBouncer, and yield the URL of the same database through it.

    Args:
        postgres_url: of the database, with a user and a password.
        pool_size: how many connections it keeps to the server.
        options: more lines of its configuration.
    """
    program, url, port = find_pgbouncer(), urlsplit(postgres_url), find_free_port()
    database = url.path.lstrip("/")
    # Not in the folder for temporary files of whoever runs the tests: nobody must get there.
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        users = folder / "users.txt"
        users.write_text(f'"{url.username}" "{url.password}"\n')
        server = (
            f"host={url.hostname} port={url.port} user={url.username} password={url.password}"
            f" pool_size={pool_size}"
        )
        lines = {
            "listen_addr": LOOPBACK,
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
            "pool_mode": "transaction",
            "max_client_conn": "200",
        }
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            "\n".join(
                [
                    "[databases]",
                    f"{database} = {server}",
                    "[pgbouncer]",
                    *(f"{name} = {value}" for name, value in (lines | options).items()),
                ]
            )
        )
        account = _NOBODY if os.geteuid() == 0 else None
        process = subprocess.Popen(
            [program, "-q", str(configuration)],
            stderr=subprocess.DEVNULL,
            user=account,
            group=account,
        )
        try:
            wait_until(lambda: _is_listening(port))
            yield f"postgresql://{url.username}@{LOOPBACK}:{port}/{database}"
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)
    finally:
        shutil.rmtree(folder)
