"""Real servers for tests: quick to start, and not durable, since no test outlives a power cut."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey


def find_system_postgres() -> Path:
    """Return the programs of the Postgres that Debian or Ubuntu installs, or skip the test.

    It is older than that of the wheel, and built with TLS.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no Postgres in /usr/lib/postgresql (apt install postgresql)")
    return programs[0].parent


@contextmanager
def run_postgres(folder: Path) -> Generator[str]:
    """Run a Postgres in `folder` and yield the DSN of its database `holdfast`."""
    server = Postgres(folder, durable=False)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def run_valkey(folder: Path) -> Generator[str]:
    """Run a Valkey in `folder` and yield its URL."""
    server = Valkey(folder, durable=False)
    try:
        yield server.start()
    finally:
        server.stop()


class BreakableValkey(Valkey):
    """A Valkey that can be killed, or made to hang, without a word of warning."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, durable=False)

    def kill(self) -> None:
        """Kill the server, and everything it remembers; `start` brings it back at its address."""
        process = self._process()
        process.kill()
        process.wait(5)

    @contextmanager
    def suspended(self) -> Generator[None]:
        """Let the server take connections and commands, and answer none of them."""
        process = self._process()
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def _process(self) -> psutil.Process:
        return psutil.Process(int((self.folder / "valkey.pid").read_text(encoding="ascii")))
