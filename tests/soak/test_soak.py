"""The soak itself, played for seconds: it must see the load, and judge all of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from schema.common import ids
from tests.soak.cli import run_soak
from tests.soak.report import write_report
from tests.soak.verdict import check_handles
from tests.support.paths import REPOSITORY


@pytest.mark.timeout(600)  # it starts eight processes, and waits until all work is done
async def test_a_short_soak_finds_nothing_and_can_find_something(tmp_path: Path) -> None:
    """The judge has real handles before it, and says so of one that is not among the rows."""
    folder = tmp_path / "soak"
    folder.mkdir()

    result = await run_soak(
        folder, duration=timedelta(seconds=12), console=Console(quiet=True), releases=[REPOSITORY]
    )
    page = write_report(result, tmp_path / "report")

    assert result.verdict.violations == []
    assert result.verdict.states["succeeded"] > 0
    assert result.samples.programs.keys() == {"service-1", "worker-1"}
    assert "**0 violations.**" in page.read_text("utf-8")
    assert {path.name for path in page.parent.iterdir()} == {"report.md", "load.png", "needs.png"}
    result.ledger.handles[ids.new_id()] = "succeeds"
    assert len(check_handles(result.ledger, {})) == len(result.ledger.handles)
