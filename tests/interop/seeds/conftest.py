"""A service beside a real system, and the lines of what was seen."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from service.local.hub_emulator.users import load_users
from service.local.ports import find_free_port
from service.local.processes.child import Child
from service.local.stack import Stack
from tests.interop import interop_page
from tests.interop.seeds.capabilities import (
    FINDINGS,
    MARKER,
    NOT_RUN,
    REASONS,
    SECTION,
    Finding,
    read_finding,
)
from tests.support.paths import REPOSITORY

START_TIMEOUT: Final = timedelta(seconds=120)
"""Longer than a busy machine ever took."""
_HEADER: Final = "| | system | package | capability | seen |\n|---|---|---|---|---|"
_PASSED: Final = pytest.StashKey[bool]()

seeds_only: Final = pytest.mark.skipif(
    not os.environ.get(interop_page.RECORD_VARIABLE),
    reason="it is dear: `python3 -m tests.interop --seeds` runs it",
)

RunService = Callable[..., AbstractContextManager[str]]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; begin with no line."""
    config.addinivalue_line("markers", f"{MARKER}(system, what): a line of docs/interop.md")
    config.stash[FINDINGS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember what a test has shown."""
    report = yield
    if report.when == "call" and report.passed and (finding := read_finding(item)) is not None:
        item.stash[_PASSED] = True
        item.config.stash[FINDINGS].append(finding)
    return report


@pytest.fixture(autouse=True)
def _line_of_the_page(request: pytest.FixtureRequest) -> Generator[None]:
    """Expect the line of a test that has passed on the page."""
    yield
    if request.node.stash.get(_PASSED, False) and not os.environ.get(interop_page.RECORD_VARIABLE):
        finding = read_finding(request.node)
        assert finding is not None
        interop_page.expect_row(SECTION, finding.row)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was seen, and write it to the page if that is wanted and all of it was seen."""
    if not os.environ.get(interop_page.RECORD_VARIABLE):
        return
    findings: list[Finding] = config.stash[FINDINGS]
    findings.sort(key=lambda finding: finding.row)
    for finding in findings:
        system = f"{finding.system.seed} {finding.system.package} {finding.system.version}"
        terminalreporter.write_line(f"{system}: {finding.capability}: {finding.outcome}")
    for row in NOT_RUN:
        terminalreporter.write_line(row.strip("| ").replace(" | ", ": "))
    for report in terminalreporter.stats.get("failed", []):
        terminalreporter.write_line(f"not seen: {report.nodeid}: {report.longreprtext[-200:]}")
    if findings and not {"failed", "error"} & terminalreporter.stats.keys():
        rows = "\n".join(sorted([*(finding.row for finding in findings), *NOT_RUN]))
        interop_page.check_section(SECTION, f"{_HEADER}\n{rows}")


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what the other system cannot do, which is then the line of the test."""
    reasons: list[str] = request.node.stash.setdefault(REASONS, [])
    return reasons.append


@pytest.fixture(scope="session")
def hub_token(stack: Stack) -> str:
    """The token of alice at the local Hub."""
    return load_users(stack.folder / "hub")[0].token


@pytest.fixture(scope="session")
def run_service(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> RunService:
    """Run one more service of the stack, with settings of its own, at a free port."""

    @contextmanager
    def run(port: int | None = None, **settings: str) -> Generator[str]:
        port = port or find_free_port()
        url = f"http://127.0.0.1:{port}"
        environment = stack.environment | {"HOLDFAST_PUBLIC_URL": url} | settings
        if settings.get("HOLDFAST_AUTH") == "jwt":
            # The stack's own pages sign people in at the Hub, which such a service does not do.
            del environment["HOLDFAST_HF_OAUTH_CLIENT_ID"]
        command = (sys.executable, "-m", "service", "serve", "--port", str(port))
        log = tmp_path_factory.mktemp("service") / "log"
        with run_server("Holdfast", command, environment, log, f"{url}/health/ready"):
            yield url

    return run


@contextmanager
def run_server(
    name: str,
    command: tuple[str | Path, ...],
    environment: dict[str, str],
    log: Path,
    probe_url: str,
    folder: Path = REPOSITORY,
) -> Generator[None]:
    """Run a server for the length of a block, from when it answers well at `probe_url`."""
    server = Child(name, command, environment, log, folder=folder)
    try:
        server.start()
        server.wait_until(lambda: _answers(probe_url), START_TIMEOUT)
        yield
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.TransportError:
        return False
