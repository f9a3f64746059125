"""The command of the benchmarks: it measures, compares, and writes `docs/performance.md`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.comparison import QUEUE_TARGETS, TOOL_TARGETS, Comparison, compare
from tests.bench.page import write_page
from tests.bench.queues import FULL_SIZE, QUICK_SIZE, measure_queues
from tests.bench.tool_calls import measure_tool_calls
from tests.support.paths import REPOSITORY

_PAGE: Final = REPOSITORY / "docs" / "performance.md"
_QUICK_ROUNDS: Final = 2
_FULL_ROUNDS: Final = 5
_QUICK_CALLS: Final = 300
_FULL_CALLS: Final = 2000


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; below ten minutes")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all measurements")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page to write")
    options = parser.parse_args()
    console = Console()
    rounds = _QUICK_ROUNDS if options.quick else _FULL_ROUNDS

    def report(line: str) -> None:
        console.print(line, highlight=False)

    with TemporaryDirectory(prefix="holdfast-bench-") as folder:
        queues = measure_queues(
            Path(folder) / "queues",
            rounds=rounds,
            size=QUICK_SIZE if options.quick else FULL_SIZE,
            report=report,
        )
        tools = measure_tool_calls(
            Path(folder) / "tools",
            rounds=rounds,
            calls=_QUICK_CALLS if options.quick else _FULL_CALLS,
            report=report,
        )
    comparisons = [*compare(queues, QUEUE_TARGETS), *compare(tools, TOOL_TARGETS)]
    measured = {"Queues": queues, "Tool calls": tools}
    console.print(_make_table(comparisons))
    if options.json:
        records = {
            "comparisons": [asdict(each) | {"is_met": each.is_met} for each in comparisons],
            "measured": measured,
        }
        options.json.write_text(json.dumps(records, indent=1), "utf-8")
    write_page(
        options.page,
        command="python3 -m tests.bench" + (" --quick" if options.quick else ""),
        rounds=rounds,
        comparisons=comparisons,
        measured=measured,
    )
    report(f"Written: {options.page}")
    return 0


def _make_table(comparisons: list[Comparison]) -> Table:
    table = Table("measure", "ours", "beside", "target", "ratio", "")
    for comparison in comparisons:
        target = comparison.target
        table.add_row(
            target.measure,
            target.ours,
            target.peer,
            f"{target.sign} {target.limit:g}",
            f"{comparison.ratio:.2f}",
            "[green]met[/]" if comparison.is_met else "[red]not met[/]",
        )
    return table
