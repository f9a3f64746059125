"""The command of the benchmarks: it measures, compares, and writes `docs/performance.md`."""

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import structlog
from rich.console import Console
from rich.table import Table

from tests.bench.comparison import Comparison, Rounds, compare
from tests.bench.page import format_row, write_page
from tests.bench.scenario import BenchRun, Scenario, Size
from tests.bench.scenarios.catalog import SCENARIOS
from tests.support.paths import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "performance.md"
_FILE_COLUMNS: Final = 160
"""Characters of a line where no terminal limits them."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line: `size`, `scenarios`, `json` and `page`, which is None for no page."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    for size, explanation in (
        (Size.QUICK, "fewer rounds; all scenarios within ten minutes"),
        (Size.TINY, "almost nothing, to see that it works; writes no page"),
    ):
        sizes.add_argument(
            f"--{size}", dest="size", action="store_const", const=size, help=explanation
        )
    parser.add_argument(
        "--only",
        dest="scenarios",
        type=_find_scenarios,
        default=SCENARIOS,
        metavar="NAME[,NAME]",
        help=f"some scenarios, and no page: {', '.join(each.name for each in SCENARIOS)}",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all measurements")
    parser.add_argument("--page", type=Path, metavar="OUT", help=f"the page to write, not {PAGE}")
    options = parser.parse_args(arguments)
    options.size = options.size or Size.FULL
    if options.page is None and options.scenarios == SCENARIOS and options.size is not Size.TINY:
        options.page = PAGE  # one of few scenarios, or of tiny ones, would replace the whole page
    return options


def describe_command(options: argparse.Namespace) -> str:
    """Write the command that measures the same again."""
    words = ["python3 -m tests.bench"]
    if options.size is not Size.FULL:
        words.append(f"--{options.size}")
    if options.scenarios != SCENARIOS:
        words.append(f"--only {','.join(scenario.name for scenario in options.scenarios)}")
    return " ".join(words)


def _find_scenarios(names: str) -> tuple[Scenario, ...]:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario is named {', '.join(unknown)}")
    return tuple(by_name[name] for name in names.split(","))


def main() -> int:
    """Measure what the command line asks for; 1 if a scenario failed, whatever was measured."""
    options = parse_arguments()
    logging.disable(logging.INFO)  # of a worker in this process: a line for each job
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console() if sys.stdout.isatty() else Console(width=_FILE_COLUMNS)
    measured, failed = _measure(options.scenarios, options.size, console)
    comparisons = [
        comparison
        for scenario, rounds in measured
        for comparison in compare(rounds, scenario.targets)
    ]
    if comparisons:
        console.print(_make_table(comparisons))
    if options.size is Size.TINY:
        console.print("Every number above is of a tiny run, and means nothing.")
    if options.json:
        options.json.write_text(json.dumps(_make_record(comparisons, measured), indent=1), "utf-8")
    if failed:
        console.print(f"No page is written. Failed: {', '.join(failed)}", style="red")
        return 1
    if options.page:
        write_page(
            options.page,
            command=describe_command(options),
            comparisons=comparisons,
            measured=measured,
        )
        console.print(f"Written: {options.page}", highlight=False)
    return 0


def _measure(
    scenarios: Sequence[Scenario], size: Size, console: Console
) -> tuple[list[tuple[Scenario, Rounds]], list[str]]:
    """Measure scenarios one after the other; return the results, and the names of what failed."""
    measured: list[tuple[Scenario, Rounds]] = []
    failed: list[str] = []

    def report(line: str) -> None:
        console.print(line, highlight=False)

    with TemporaryDirectory(prefix="holdfast-bench-") as parent:
        for scenario in scenarios:
            report(f"[bold]{scenario.title}[/]")
            folder = Path(parent) / scenario.name
            folder.mkdir()
            started_at = time.monotonic()
            try:
                rounds = scenario.measure(BenchRun(folder, size, report))
            # The others are measured all the same.
            except (Exception, pytest.fail.Exception):  # noqa: BLE001
                console.print(traceback.format_exc(), markup=False, highlight=False)
                failed.append(scenario.name)
                continue
            measured.append((scenario, rounds))
            for name, results in sorted(rounds.items()):
                report(f"  {name}: {results}")
            report(f"  after {time.monotonic() - started_at:.0f} s")
    return measured, failed


def _make_record(
    comparisons: list[Comparison], measured: list[tuple[Scenario, Rounds]]
) -> dict[str, Any]:
    return {
        "comparisons": [
            asdict(each) | {"value": each.value, "is_met": each.is_met} for each in comparisons
        ],
        "measured": {scenario.name: rounds for scenario, rounds in measured},
    }


def _make_table(comparisons: list[Comparison]) -> Table:
    table = Table("what", "ours", "beside", "target", "measured", "least to most", "")
    for comparison in comparisons:
        *cells, verdict = format_row(comparison)
        colour = "green" if comparison.is_met else "red"
        table.add_row(*cells, f"[{colour}]{verdict}[/]")
    return table
