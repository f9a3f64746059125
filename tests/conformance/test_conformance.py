"""Conformance of our servers to both revisions of the specification, by its official suite."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from schema.settings import Settings
from tests.conformance import suite
from tests.conformance.exclusions import NOT_OFFERED
from tests.conformance.report import (
    SuiteResults,
    find_failures,
    find_service_failures,
    format_report,
)
from tests.conformance.servers import run_service, run_service_with_suite_tools
from tests.conformance.suite import REVISIONS, ConformanceResult
from tests.interop import interop_page
from tests.support.hub.fake_hub import FakeHub, run_fake_hub
from tests.support.mcp.client import post_message

pytestmark = [pytest.mark.xdist_group("conformance")]

PASSED_RESULT, FAILED_RESULT = (
    ConformanceResult(1, (), ()),
    ConformanceResult(1, ("a-check: It is not so.",), ()),
)


@pytest.fixture
def fake_hub() -> Generator[FakeHub]:
    """A Hub that knows who calls."""
    with run_fake_hub() as whoami:
        yield whoami


@pytest.fixture
def suite_server_url(make_settings: Callable[..., Settings], fake_hub: FakeHub) -> Generator[str]:
    """Our middleware around the tools that the suite calls."""
    with run_service_with_suite_tools(make_settings(hub_url=fake_hub.url)) as url:
        yield url


@pytest.fixture
def service_url(make_settings: Callable[..., Settings], fake_hub: FakeHub) -> Generator[str]:
    """Our service."""
    with run_service(make_settings(hub_url=fake_hub.url)) as url:
        yield url


async def test_the_edge_and_the_service_conform_to_both_revisions(
    suite_server_url: str, service_url: str, tmp_path: Path
) -> None:
    """Any client that keeps to the specification can talk to us."""
    runs: dict[str, tuple[SuiteResults, SuiteResults]] = {
        revision: (
            suite.run_suite(suite_server_url, revision, tmp_path / f"{revision}-edge"),
            suite.run_suite(service_url, revision, tmp_path / f"{revision}-service"),
        )
        for revision in REVISIONS
    }

    wrong = {
        revision: [
            *find_failures(revision, suite_results),
            *find_service_failures(revision, service),
        ]
        for revision, (suite_results, service) in runs.items()
    }
    assert not any(wrong.values()), wrong
    interop_page.check_section("conformance", format_report(runs))


async def test_what_is_excused_is_not_claimed(service_url: str) -> None:
    """An optional part may be left out only by who does not say that they have it."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "0"},
    }

    answer = await post_message(
        service_url.removesuffix("/mcp"), "initialize", hello, authorization=""
    )

    assert "mcp-session-id" not in answer.headers
    claimed = answer.json()["result"]["capabilities"]
    assert "logging" not in claimed
    assert "tasks" not in claimed
    assert not claimed["resources"]["subscribe"]


def test_what_fails_is_said() -> None:
    """The judge is not asleep."""
    results = expected_results() | {"ping": FAILED_RESULT}

    assert find_failures("2025-11-25", results) == ["ping: a-check: It is not so."]


def test_an_excuse_does_not_outlive_its_reason() -> None:
    """Whoever adds a capability is told to take the excuse out."""
    results = expected_results() | {"logging-set-level": PASSED_RESULT}

    assert find_failures("2025-11-25", results) == [
        "logging-set-level is excused, and has no trouble"
    ]


def test_what_was_not_run_is_missed() -> None:
    """A suite that runs less than it did shows less than it did."""
    assert len(find_service_failures("2025-11-25", {})) > 1
    assert len(find_failures("2025-11-25", {})) == len(NOT_OFFERED["2025-11-25"])


def expected_results() -> dict[str, ConformanceResult]:
    """What would be found if everything was as it should be."""
    return {"ping": PASSED_RESULT} | dict.fromkeys(NOT_OFFERED["2025-11-25"], FAILED_RESULT)
