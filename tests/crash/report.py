"""The report on the crash cases: a page for people, and the same as JSON."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.crash.scenario import ScenarioResult


def write_report(results: Sequence[ScenarioResult], folder: Path, *, seconds: float) -> Path:
    """Write both into a folder; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [asdict(result) for result in results]
    (folder / "report.json").write_text(json.dumps(records, indent=1, default=str), "utf-8")
    page = folder / "report.md"
    page.write_text("\n".join(_format_page(results, seconds)), "utf-8")
    return page


def _format_page(results: Sequence[ScenarioResult], seconds: float) -> list[str]:
    faults = sorted({result.case.fault for result in results})
    failpoints = sorted({result.case.point for result in results})
    by_cell: dict[tuple[str, str], list[ScenarioResult]] = defaultdict(list)
    for result in results:
        by_cell[result.case.point, result.case.fault].append(result)
    states: Counter[str] = Counter()
    for result in results:
        states.update(result.counts.states)
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    violations = [(result.case, text) for result in results for text in result.violations]
    return [
        "# Crash matrix",
        "",
        f"{len(results)} cases in {seconds:.0f} s.",
        f"{len(failpoints)} failpoints, {len(faults)} faults.",
        f"{sum(result.reached for result in results)} processes were killed at their failpoint.",
        f"{sum(result.counts.handles for result in results)} handles: {ended}.",
        f"{sum(result.counts.created for result in results)} jobs at the Hub.",
        f"{sum(result.counts.surplus for result in results)} of these were surplus and killed.",
        *_describe_late_arrivals(results),
        "",
        f"**{len(violations)} violations.**",
        *(f"- `{case}`: {text}" for case, text in violations),
        "",
        "How often a process was killed at the failpoint; `·` where the fault leaves no way to it.",
        "",
        f"| failpoint | {' | '.join(faults)} |",
        f"|---|{'---|' * len(faults)}",
        *(
            f"| {place} | "
            + " | ".join(_format_cell(by_cell[place, fault]) for fault in faults)
            + " |"
            for place in failpoints
        ),
        "",
    ]


def _describe_late_arrivals(results: Sequence[ScenarioResult]) -> list[str]:
    delays = sorted(delay for result in results for delay in result.listing_delays)
    if not delays:
        return []
    median, longest = delays[len(delays) // 2], delays[-1]
    settled = max(result.settling_seconds for result in results if result.listing_delays)
    return [
        f"{len(delays)} requests arrived late.",
        f"A worker had listed them after {median:.1f} s (median), {longest:.1f} s at most.",
        f"Nothing was owed any more {settled:.1f} s after the last of them, at most.",
    ]


def _format_cell(results: Sequence[ScenarioResult]) -> str:
    if not results:
        return ""
    if violations := sum(len(result.violations) for result in results):
        return f"**{violations} broken**"
    return str(sum(result.reached for result in results) or "·")
