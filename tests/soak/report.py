"""The report of a soak: a page with tables, and plots of what the processes needed."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tests.soak.disturbances import DisturbanceLog
from tests.soak.load import Ledger
from tests.soak.samples import Samples
from tests.soak.verdict import Verdict

mpl.use("Agg")  # draws into files; no window

_WINDOW_SECONDS: Final = 20.0
"""Of calls that are summed up to one point of a plot."""


@dataclass(frozen=True, slots=True)
class SoakResult:
    """One soak."""

    duration: timedelta
    ledger: Ledger
    log: DisturbanceLog
    samples: Samples
    verdict: Verdict


def write_report(result: SoakResult, folder: Path) -> Path:
    """Write the page and its pictures into a folder; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot_load(result, folder / "load.png")
    _plot_needs(result, folder / "needs.png")
    page = folder / "report.md"
    page.write_text("\n".join(_format_page(result)), "utf-8")
    return page


def _format_page(result: SoakResult) -> list[str]:
    ledger, verdict, log = result.ledger, result.verdict, result.log
    minutes = result.duration.total_seconds() / 60
    return [
        "# Soak",
        "",
        f"Made by `python3 -m tests.soak --minutes {minutes:g}`.",
        "",
        (
            "Two services, three workers, durable Postgres and Valkey, and a local Hub, each a "
            "process of its own. Six people call the tools through the MCP client, two programs "
            "each; one of them has a new token every minute, and the one before ends. In the "
            "second half 100 more wait for one job. What is rolled out is the next release, with a "
            "revision of its own, and then this one again; a service and a worker of this release "
            "are never ended."
        ),
        "",
        f"**{len(verdict.violations)} violations.**",
        *(f"- {violation}" for violation in verdict.violations[:100]),
        "",
        *_table("what was compared", "", verdict.checks),
        "",
        "## What was done to it",
        "",
        *_table("disturbance", "times", sorted(log.counts.items())),
        "",
        *_describe_stops(log),
        f"Nothing was owed any more {verdict.settle_seconds:.0f} s after the load had ended.",
        "",
        "![Calls, and what was done to the deployment](load.png)",
        "",
        "## What came of it",
        "",
        (
            f"{len(ledger.handles)} handles, {verdict.hub_jobs} jobs at the Hub, of which "
            f"{verdict.surplus} were surplus and killed."
        ),
        "",
        *_table("state", "jobs", sorted(verdict.states.items())),
        "",
        *_table("reason", "jobs", sorted(verdict.reasons.items())),
        "",
        (
            "Work that ended `launch_unconfirmed` or `outcome_unknown` lost its worker at the "
            "moment of the request. The job says so; nothing is sent twice without a search."
        ),
        "",
        "## Calls",
        "",
        f"{ledger.calls.total()} calls were answered.",
        "",
        *_table("refusal", "times", sorted(ledger.refusals.items())),
        "",
        *_table("call made again because of", "times", ledger.outages.most_common()),
        "",
        *_describe_durations(ledger),
        "",
        "## What the processes needed",
        "",
        (
            "Of the service and the worker that nothing ended. The second quarter of the run is "
            "compared with the last one."
        ),
        "",
        *_describe_growth(result.samples),
        "",
        "![Memory, threads, files and connections](needs.png)",
        "",
    ]


def _table(left: str, right: str, rows: Sequence[tuple[str, object]]) -> list[str]:
    return [
        f"| {left} | {right} |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]


def _describe_stops(log: DisturbanceLog) -> list[str]:
    if not log.stop_seconds:
        return []
    ordered = sorted(log.stop_seconds)
    return [
        (
            f"{len(ordered)} processes were told to stop: {median(ordered):.1f} s (median), "
            f"{ordered[-1]:.1f} s at most."
        ),
        "",
    ]


def _describe_durations(ledger: Ledger) -> list[str]:
    by_tool: dict[str, list[float]] = defaultdict(list)
    for _, tool, duration in ledger.durations:
        by_tool[tool].append(duration)
    lines = ["| tool | calls | median | p95 | longest |", "|---|---|---|---|---|"]
    for tool, seconds in sorted(by_tool.items()):
        if len(seconds) > 1:
            p95 = quantiles(seconds, n=20)[-1]
            lines.append(
                f"| `{tool}` | {len(seconds)} | {median(seconds) * 1000:.0f} ms | "
                f"{p95 * 1000:.0f} ms | {max(seconds):.1f} s |"
            )
    return [
        *lines,
        "",
        (
            "The machine was busy with all of this, and `wait_for_jobs` waits up to 20 s; the "
            "numbers say how the calls fared, not how fast they are."
        ),
    ]


def _describe_growth(samples: Samples) -> list[str]:
    lines = ["| process | memory | threads | files |", "|---|---|---|---|"]
    for name in samples.programs:
        memory, threads, files = (
            samples.growth(name, measure) for measure in ("resident_bytes", "threads", "open_files")
        )
        lines.append(
            f"| {name} | {memory[0] / 1e6:.0f} → {memory[1] / 1e6:.0f} MB | "
            f"{threads[0]:.0f} → {threads[1]:.0f} | {files[0]:.0f} → {files[1]:.0f} |"
        )
    return lines


def _plot_load(result: SoakResult, path: Path) -> None:
    figure, (calls, jobs) = plt.subplots(2, 1, figsize=(10, 7), sharex=True, layout="constrained")
    started_at = result.samples.started_at
    windows: Counter[int] = Counter(
        int((at - started_at) / _WINDOW_SECONDS) for at, *_ in result.ledger.durations
    )
    moments = range(max(windows, default=0))
    calls.plot(
        [number * _WINDOW_SECONDS / 60 for number in moments],
        [windows[number] / _WINDOW_SECONDS for number in moments],
        label="answered calls per second",
    )
    names = sorted({name for _, name in result.log.moments})
    for row, name in enumerate(names):
        at = [seconds / 60 for seconds, each in result.log.moments if each == name]
        calls.plot(at, [-0.6 * (row + 1)] * len(at), "|", markersize=9, label=name)
    calls.set_ylabel("calls per second")
    calls.set_ylim(top=1.3 * calls.get_ylim()[1])  # room for the legend
    calls.legend(fontsize=8, ncols=4, loc="upper center")
    calls.set_title("Answered calls, and when something was done to the deployment")
    minutes = [seconds / 60 for seconds, *_ in result.samples.database]
    jobs.plot(minutes, [count for _, count, _, _ in result.samples.database], label="all jobs")
    jobs.plot(minutes, [count for _, _, count, _ in result.samples.database], label="open jobs")
    jobs.set_ylabel("jobs")
    jobs.set_xlabel("minutes")
    jobs.legend(fontsize=8)
    jobs.set_title("Jobs in the database")
    _save(figure, path)


def _plot_needs(result: SoakResult, path: Path) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, layout="constrained")
    for axis, measure, title, scale in (
        (axes[0][0], "resident_bytes", "Memory (MB)", 1e6),
        (axes[0][1], "threads", "Threads", 1),
        (axes[1][0], "open_files", "Open files", 1),
    ):
        for name, samples in result.samples.programs.items():
            axis.plot(
                [sample.seconds / 60 for sample in samples],
                [getattr(sample, measure) / scale for sample in samples],
                label=name,
            )
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
    connections = axes[1][1]
    connections.plot(
        [seconds / 60 for seconds, *_ in result.samples.database],
        [count for *_, count in result.samples.database],
        color="tab:green",
    )
    connections.set_title("Connections to Postgres, of all processes")
    connections.set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)  # pyright: ignore[reportUnknownMemberType]  # its stubs
    plt.close(figure)
