"""The page of the benchmarks, `docs/performance.md`, and its picture."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.comparison import Comparison, Rounds, format_number
from tests.bench.scenario import Scenario

mpl.use("Agg")  # draws into files; no window

_COLUMNS: Final = 100
"""Characters of a line of the page, apart from its tables."""
_MEASURES: Final = {
    "submit_p50_ms": "one durable submit, median",
    "submits_per_second": "submits per second, 16 callers",
    "ends_per_second": "no-op jobs per second, one worker",
    "wake_p50_ms": "submit to start, waiting worker, median",
    "wake_p95_ms": "submit to start, waiting worker, 95th percentile",
    "cpu_per_job_ms": "CPU time of the worker per no-op job",
    "calls_per_second": "tool calls per second, 8 connections",
    "p50_ms": "one call over MCP, median",
    "change_p95_ms": "committed change to answer, 95th percentile",
    "connections": "connections of the process for notifications",
    "job_status_p50_ms": "status of one job, median",
    "list_jobs_p50_ms": "list of 20 jobs, median",
    "list_by_label_p50_ms": "list of jobs by a label, median",
    "claim_p50_ms": "claim of one job, median",
    "recovery_seconds": "SIGKILL in a launch to a job that runs",
    "hub_calls_percent": "calls of the Hub in one pass, in percent of the runs",
    "database_seconds": "one pass in seconds of one connection, for 100,000 runs",
    "cpu_percent": "CPU, in percent of one core",
    "statements_per_second": "statements per second",
    "ready_seconds": "start to the handle of the first job",
}
"""What a reader calls the measures that have a target."""
_INTRODUCTION: Final = """\
# Performance

Written by `{command}`.

The machines that measure are noisy, so most targets are a multiple (x) of what a peer, or ours at
another size, did in the same round: 1.0 is equal, for times less is better, for rates more. The
others are a limit with a unit. Shown are the median of the rounds and the least and the most; the
order is reversed in every other round. Beside a target that is not met stands what keeps ours from
it, where that is known.

Ours does what it does in production: a job, its event, its idempotency key and its reservation in
one durable transaction; row-level security; the check of the token; a lease for each attempt. The
peers run on the same durable Postgres and Valkey, set up as their documentation advises.
procrastinate and DBOS keep a row of each job, pgqueuer deletes it, arq and docket keep nothing.
"""

_PROFILES: Final = (
    "Written by `.venv/bin/python -m tests.bench.profile_pictures`. Each picture is of samples of "
    "the main thread of one process under load: a width is a share of the time, a caller stands "
    "above what it calls, and the colour is whose code it is. `queue` is the program that submits "
    "jobs and carries them out; the others are the service during calls of one tool."
)


def write_page(
    page: Path,
    *,
    command: str,
    comparisons: list[Comparison],
    measured: Iterable[tuple[Scenario, Rounds]],
) -> None:
    """Write the page, and a picture of the ratios beside it."""
    picture = page.parent / "images" / "performance.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    ratios = [comparison for comparison in comparisons if comparison.target.is_ratio]
    _plot(ratios, picture)
    met = sum(comparison.is_met for comparison in comparisons)
    lines = [
        _INTRODUCTION.format(command=command),
        f"{met} of {len(comparisons)} targets are met.",
        "",
        "| what | ours | beside | target | measured | least to most | |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(format_row(comparison))} |" for comparison in comparisons),
        "",
        f"![Each ratio, and its target]({picture.relative_to(page.parent)})",
        "",
        *_format_profiles(page),
        "## What was measured",
        "",
        "The medians of the rounds on this one machine, for a sense of scale.",
        "",
        *(line for scenario, rounds in measured for line in _format_rounds(scenario, rounds)),
    ]
    page.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _format_profiles(page: Path) -> list[str]:
    """Link the pictures of `tests.bench.profile_pictures`, which have a run of their own."""
    pictures = sorted((page.parent / "images").glob("profile-*.png"))
    return [
        "## Where the time goes",
        "",
        *fill(_PROFILES, _COLUMNS).splitlines(),
        "",
        *(
            f"![{picture.stem}]({picture.relative_to(page.parent).as_posix()})\n"
            for picture in pictures
        ),
    ]


def format_row(comparison: Comparison) -> tuple[str, ...]:
    """Write what was measured for a target: one cell for each column of the table."""
    target, values = comparison.target, comparison.values
    return (
        _MEASURES[target.measure],
        target.ours,
        target.peer or "-",
        target.requirement,
        target.format_value(comparison.value),
        f"{target.format_value(min(values))} to {target.format_value(max(values))}",
        comparison.verdict,
    )


def _format_rounds(scenario: Scenario, rounds: Rounds) -> list[str]:
    """Write the tables of a scenario; a row is in the first one that has all its measures."""
    measures = {
        name: tuple(dict.fromkeys(measure for each in results for measure in each))
        for name, results in rounds.items()
    }
    tables: dict[tuple[str, ...], list[str]] = {}
    widest_first = sorted(dict.fromkeys(measures.values()), key=len, reverse=True)
    for name, results in sorted(rounds.items()):
        columns = next(each for each in widest_first if set(each).issuperset(measures[name]))
        cells = [
            format_number(median(values))
            if (values := [each[column] for each in results if each.get(column) is not None])
            else "·"
            for column in columns
        ]
        tables.setdefault(columns, []).append(f"| {name} | {' | '.join(cells)} |")
    lines = [f"### {scenario.title}", "", fill(scenario.description, _COLUMNS), ""]
    for columns, rows in tables.items():
        head = " | ".join(column.replace("_", " ") for column in columns)
        lines += [f"| | {head} |", f"|---|{'---|' * len(columns)}", *rows, ""]
    return lines


def _plot(comparisons: list[Comparison], path: Path) -> None:
    drawn: tuple[Any, Any] = plt.subplots(
        figsize=(10, 0.45 * len(comparisons) + 1.5), layout="constrained"
    )
    figure, axis = drawn
    for row, comparison in enumerate(reversed(comparisons)):
        colour = "tab:green" if comparison.is_met else "tab:red"
        axis.plot([min(comparison.values), max(comparison.values)], [row, row], color=colour)
        axis.plot([comparison.value], [row], "o", color=colour)
        axis.plot([comparison.target.limit], [row], "|", color="black", markersize=16)
    axis.set_yticks(
        range(len(comparisons)),
        [
            f"{_MEASURES[each.target.measure]}\n{each.target.ours} / {each.target.peer}"
            for each in reversed(comparisons)
        ],
        fontsize=7,
    )
    axis.axvline(1, color="lightgrey", zorder=0)
    axis.set_xscale("log")
    axis.set_xlabel("ours / peer; the line is the target, green is met")
    figure.savefig(path, dpi=110)
    plt.close(figure)
