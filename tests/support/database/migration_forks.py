"""A program that forks a `migrate` for each URL it reads, with every module imported already.

Prints a line with the process id of each, and one with its exit code when it has ended.
"""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import PIPE, Popen

from schema.db import revisions
from tests.support.paths import REPOSITORY


class MigrationForks:
    """Processes that migrate, one at a time; each starts within milliseconds."""

    def __init__(self, server: "Popen[str]") -> None:
        self._server = server

    def start(self, url: str) -> int:
        """Start to migrate a database, and return the id of the process that does."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{url}\n")
        self._server.stdin.flush()
        return self._read()

    def wait(self) -> int:
        """Wait until that process has ended, and return its exit code."""
        return self._read()

    def _read(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


@contextmanager
def run_migration_forks() -> Generator[MigrationForks]:
    """Run the program; after the block it has ended."""
    command = [sys.executable, "-m", "tests.support.database.migration_forks"]
    with Popen(command, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE, text=True) as server:
        yield MigrationForks(server)


def _migrate(url: str) -> None:
    code = 1
    try:
        revisions.upgrade_to_revision(url)
        code = 0
    except BaseException:
        traceback.print_exc()  # `_exit` below ends the process before Python would
        raise
    finally:
        os._exit(code)


def main() -> None:
    """Fork for each line, until the input ends."""
    for module in ("schema.tables", "sqlalchemy.dialects.postgresql.asyncpg"):
        importlib.import_module(module)  # what `alembic/env.py` imports
    gc.freeze()
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _migrate(line.strip())
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
