"""The page of the benchmarks, `docs/performance.md`, and its pictures."""

from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.comparison import Comparison, Rounds

mpl.use("Agg")  # draws into files; no window

_MEASURES: Final = {
    "submit_p50_ms": "one durable submit, median",
    "submits_per_second": "submits per second, 16 callers",
    "ends_per_second": "no-op jobs per second, one worker",
    "wake_p50_ms": "submit to start, waiting worker, median",
    "cpu_ms_per_job": "CPU time of the worker per no-op job",
    "calls_per_second": "tool calls per second, 8 connections",
}
_INTRODUCTION: Final = """\
# Performance

Written by `{command}`. Each number is a ratio of ours to the peer's in the same round, because the
machines that measure are noisy: 1.0 is equal. Shown are the median of {rounds} rounds and the least
and the most; the order is reversed in every other round. For times less is better, for rates more.

Ours does what it does in production: a job, its event, its idempotency key and its reservation in
one durable transaction; row-level security; the check of the token; a lease for each attempt. The
peers run on the same durable Postgres and Valkey, set up as their documentation advises.
procrastinate and DBOS keep a row of each job, pgqueuer deletes it, arq and docket keep nothing.
"""


def write_page(
    page: Path,
    *,
    command: str,
    rounds: int,
    comparisons: list[Comparison],
    measured: dict[str, Rounds],
) -> None:
    """Write the page, and a picture of the ratios beside it."""
    picture = page.parent / "images" / "performance.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    _plot(comparisons, picture)
    met = sum(comparison.is_met for comparison in comparisons)
    lines = [
        _INTRODUCTION.format(command=command, rounds=rounds),
        f"{met} of {len(comparisons)} targets are met.",
        "",
        "| what | ours | beside | target | ratio | least to most | |",
        "|---|---|---|---|---|---|---|",
        *map(_format_row, comparisons),
        "",
        f"![Each ratio, and its target]({picture.relative_to(page.parent)})",
        "",
        "## What was measured",
        "",
        "The medians of the rounds on this one machine, for a sense of scale.",
        "",
        *(line for name, results in measured.items() for line in _format_rounds(name, results)),
    ]
    page.write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _format_row(comparison: Comparison) -> str:
    target, ratios = comparison.target, comparison.ratios
    return (
        f"| {_MEASURES[target.measure]} | {target.ours} | {target.peer} "
        f"| {target.sign} {target.limit:g} | {comparison.ratio:.2f} "
        f"| {min(ratios):.2f} to {max(ratios):.2f} | {'met' if comparison.is_met else 'not met'} |"
    )


def _format_rounds(name: str, rounds: Rounds) -> list[str]:
    columns = [measure for measure in next(iter(rounds.values()))[0] if measure != "peer"]
    head = " | ".join(column.replace("_", " ") for column in columns)
    lines = [f"### {name}", "", f"| | {head} |", f"|---|{'---|' * len(columns)}"]
    for peer, results in sorted(rounds.items()):
        cells = [
            f"{median(values):.2f}"
            if (values := [each[column] for each in results if each[column]])
            else "·"
            for column in columns
        ]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return [*lines, ""]


def _plot(comparisons: list[Comparison], path: Path) -> None:
    drawn: tuple[Any, Any] = plt.subplots(
        figsize=(10, 0.45 * len(comparisons) + 1.5), layout="constrained"
    )
    figure, axis = drawn
    for row, comparison in enumerate(reversed(comparisons)):
        colour = "tab:green" if comparison.is_met else "tab:red"
        axis.plot([min(comparison.ratios), max(comparison.ratios)], [row, row], color=colour)
        axis.plot([comparison.ratio], [row], "o", color=colour)
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
