"""A private Valkey server: its start, its append-only file, and its end.

Clients reach it over the loopback address with a password. The file may be a second behind, which
is enough: the queue only wakes workers, and Postgres has the jobs.
"""

import os
import socket
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

from service.local.data_dir import read_or_create_private_file, write_private_file
from service.local.ports import start_on_stable_port
from service.local.processes.child import DEFAULT_STOP_SIGNALS, Child, stop_orphan
from service.local.servers.binaries import find_valkey_server

_START_TIMEOUT: Final = timedelta(seconds=20)
_PROBE_TIMEOUT: Final = timedelta(milliseconds=200)


class Valkey:
    """One Valkey server with its files in `folder`; only tests switch `durable` off."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.name = "Valkey"
        self.folder = folder.resolve()
        self._durable = durable
        self._config_path = self.folder / "valkey.conf"
        self._pidfile = self.folder / "valkey.pid"
        self._child: Child | None = None

    @property
    def exit_code(self) -> int | None:
        """How the server ended by itself; None while it runs or is stopped."""
        return self._child.exit_code if self._child else None

    def start(self) -> str:
        """Start the server and return its URL."""
        program = find_valkey_server()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._child:
            self._child.stop()
        stop_orphan(self._pidfile, str(self._config_path), *DEFAULT_STOP_SIGNALS[0])
        password = read_or_create_private_file(self.folder / "password", token_urlsafe)

        def start(port: int) -> None:
            write_private_file(self._config_path, self._render_config(port, password))
            self._child = Child(
                self.name,
                [program, self._config_path],
                os.environ,
                self.folder / "valkey.log",
                folder=self.folder,
            )
            self._child.start()
            self._child.wait_until(lambda: _is_ready(port, password), timeout=_START_TIMEOUT)

        port = start_on_stable_port(self.folder / "port", start)
        return f"redis://:{password}@127.0.0.1:{port}/0"

    def stop(self) -> None:
        """Stop the server; what it had acknowledged a second before is on disk."""
        if self._child:
            self._child.stop()

    def _render_config(self, port: int, password: str) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{self.folder}"',
            f'pidfile "{self._pidfile}"',
            # Else the server rewrites its command line, `stop_orphan` does not recognise it, and
            # two servers write to one file.
            "set-proc-title no",
            "maxmemory-policy noeviction",
            'save ""',
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync everysec",
        ]
        return "\n".join([*lines, ""])


def _is_ready(port: int, password: str) -> bool:
    """Say whether the server on `port` is ours (it takes our password) and has read its files."""
    try:
        with (
            socket.create_connection(
                ("127.0.0.1", port), _PROBE_TIMEOUT.total_seconds()
            ) as connection,
            connection.makefile("rb") as answers,
        ):
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
    except OSError:
        return False
