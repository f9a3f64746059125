"""Real servers for the tests: quick to start, and forgetful, since no test outlives a power cut."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from service.local.postgres import Postgres
from service.local.valkey import Valkey


@contextmanager
def postgres_server(folder: Path) -> Generator[str]:
    """Run a Postgres in `folder` and yield the DSN of its database `holdfast`."""
    server = Postgres(folder, durable=False)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def valkey_server(folder: Path) -> Generator[str]:
    """Run a Valkey in `folder` and yield its URL."""
    server = Valkey(folder, durable=False)
    try:
        yield server.start()
    finally:
        server.stop()
