"""The whole stack under one supervisor, which may end in every way a process can.

The database servers are real where they matter. The command line is a stand-in that takes the
same arguments, so what is proved here is the supervision; `tests/e2e` runs the real one.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

import schema
import service
from schema.db import revisions
from service.cli import main as cli_main
from service.local.errors import CannotStart
from service.local.stack import Stack
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until

STUB_CLI_SOURCE = '''
"""A stand-in: each command does the least that the supervisor can see."""
import http.server, os, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
        self.wfile.write(b'{"process": %d}' % os.getpid())

def main() -> int:
    command, *arguments = sys.argv[1:]
    print("this is", command, flush=True)
    if command == "migrate":
        return int(os.environ.get("BROKEN_MIGRATION", 0))
    port = int(arguments[arguments.index("--port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Ready).serve_forever()
'''
SUPERVISOR_SOURCE = f"""
import signal, sys
from pathlib import Path
from {CannotStart.__module__} import CannotStart
from {Stack.__module__} import Stack

def report(sentence):
    print(sentence, flush=True)

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests under nohup ignores it
try:
    with Stack(Path(sys.argv[1]), report=report, durable=False) as stack:
        report("Serving " + stack.url)
        stack.run_until_interrupted()
except CannotStart as problem:
    sys.exit(str(problem))
"""
EXTERNAL_SERVERS = {
    "HOLDFAST_DATABASE_URL": "postgresql://db.invalid/holdfast",
    "HOLDFAST_REDIS_URL": "redis://redis.invalid/0",
}


class Installation:
    """An installation with the stand-in command line, and the data folder it works on."""

    def __init__(self, root: Path) -> None:
        self.code = root / "code"
        self.folder = root / "kept"
        shutil.copytree(REPOSITORY / "alembic", self.code / "alembic")
        for package in (schema, service):
            source = Path(next(iter(package.__path__)))
            shutil.copytree(
                source, self.code / source.name, ignore=shutil.ignore_patterns("__pycache__")
            )
        (self.code / Path(cli_main.__file__).relative_to(REPOSITORY)).write_text(STUB_CLI_SOURCE)
        (self.code / "workers.py").write_text("import time; time.sleep(600)  # at work")
        (self.code / "supervisor.py").write_text(SUPERVISOR_SOURCE)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        return subprocess.Popen(
            [sys.executable, "supervisor.py", self.folder],
            cwd=self.code,
            env=inherited | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def running(self, **environment: str) -> Generator["Supervisor"]:
        with self.start(**environment) as process:
            supervisor = Supervisor(process)
            try:
                supervisor.read_until("Serving ")
                yield supervisor
            finally:
                process.terminate()
                process.communicate(timeout=30)


class Supervisor:
    """A supervisor process, what it has said, and the processes below it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []

    def read_until(self, words: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return line
        pytest.fail(f"never said {words!r}, only:\n{''.join(self.said)}")

    @property
    def url(self) -> str:
        return next(line for line in self.said if line.startswith("Serving ")).split()[1]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, command: str) -> psutil.Process:
        (process,) = (child for child in self.children() if command in child.cmdline())
        return process


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def _read_status(url: str) -> int:
    place = urlsplit(url)
    with closing(HTTPConnection(place.netloc, timeout=5)) as connection:
        connection.request("GET", place.path)
        return connection.getresponse().status


def _write_revision(folder: Path, revision: str) -> None:
    """Write to the database of a running stack which revision it is at."""
    port, password = ((folder / "postgres" / name).read_text() for name in ("port", "password"))

    async def write() -> None:
        connection = await asyncpg.connect(
            f"postgresql://postgres:{password}@127.0.0.1:{port}/holdfast"
        )
        await connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num text)")
        await connection.execute("DELETE FROM alembic_version")
        await connection.execute("INSERT INTO alembic_version VALUES ($1)", revision)
        await connection.close()

    asyncio.run(write())


def _have_all_ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ordinary_end_leaves_nothing_running(
    installation: Installation, ending: signal.Signals
) -> None:
    """Ctrl-C, a container's stop and a closed terminal are all the same to whoever cleans up."""
    with installation.running() as supervisor:
        children = supervisor.children()
        for command in ("hub", "serve", "workers"):
            assert supervisor.child(command) in children
        assert _read_status(f"{supervisor.url}/health/ready") == HTTPStatus.OK

        supervisor.process.send_signal(ending)
        assert supervisor.process.wait(30) == 0

    assert _have_all_ended(children)


def test_a_start_migrates_only_a_database_that_needs_it(installation: Installation) -> None:
    """The process that would find nothing to do takes a second of each start."""
    log = installation.folder / "logs" / "migrate.log"
    with installation.running():
        assert log.read_text() == "this is migrate\n"
        _write_revision(installation.folder, "0000")
    with installation.running():
        assert log.read_text() == "this is migrate\n" * 2
        _write_revision(installation.folder, revisions.head_revision())
    with installation.running():
        assert log.read_text() == "this is migrate\n" * 2


def test_the_hub_starts_beside_the_servers_of_which_it_needs_none(
    installation: Installation,
) -> None:
    """A newcomer waits for the slower of them, not for one after the other."""
    with installation.running() as supervisor:
        sentences = [line.strip() for line in supervisor.said]

    assert sentences.index("Starting the local Hub.") < sentences.index("Starting Postgres.")


def test_the_servers_end_side_by_side(installation: Installation) -> None:
    """Whoever presses Ctrl-C waits for the slowest of them, not for all in turn."""
    with installation.running() as supervisor:
        postgres = next(child for child in supervisor.children() if child.name() == "postgres")
        others = [child for child in supervisor.children() if "hub" in child.cmdline()]
        others += [child for child in supervisor.children() if child.name() == "valkey-server"]
        postgres.suspend()
        try:
            supervisor.process.terminate()

            assert len(others) == 2
            assert _have_all_ended(others)
            assert postgres.is_running()
        finally:
            postgres.resume()


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_no_lock(installation: Installation) -> None:
    """Nothing could clean up then, so the kernel has to; and the next start is like any other."""
    with installation.running() as first:
        children = first.children()
        first.process.kill()
        assert _have_all_ended(children)

    with installation.running() as second:
        assert _read_status(f"{second.url}/health/ready") == HTTPStatus.OK


def test_a_second_supervisor_on_the_same_folder_is_told_so(installation: Installation) -> None:
    """Two of them would run two databases on one set of files."""
    with installation.running(**EXTERNAL_SERVERS) as first:
        with installation.start(**EXTERNAL_SERVERS) as second:
            output, _ = second.communicate(timeout=20)

        assert second.returncode == 1
        assert f"Another Holdfast is already running on {installation.folder}" in output
        assert len(first.children()) == 3


def test_servers_that_the_environment_names_are_not_started(installation: Installation) -> None:
    """Compose and managed databases bring their own."""
    with installation.running(**EXTERNAL_SERVERS) as supervisor:
        children = supervisor.children()

    assert len(children) == 3
    assert not (installation.folder / "postgres").exists()
    assert not (installation.folder / "valkey").exists()


def test_a_worker_that_was_killed_is_started_again(installation: Installation) -> None:
    """`up` is left alone for days; the out-of-memory killer is not announced."""
    with installation.running(**EXTERNAL_SERVERS) as supervisor:
        killed = supervisor.child("workers")
        killed.kill()

        assert "exit code -9" in supervisor.read_until("The worker ended")
        supervisor.read_until("Starting it again")
        wait_until(lambda: any("workers" in child.cmdline() for child in supervisor.children()))


def test_a_failing_step_ends_the_start_with_its_own_words(installation: Installation) -> None:
    """The reason is in a log; nobody should have to look for the log."""
    with installation.start(BROKEN_MIGRATION="3", **EXTERNAL_SERVERS) as process:
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "The migrate ended with exit code 3" in output
    assert "this is migrate" in output
    assert "Traceback" not in output
