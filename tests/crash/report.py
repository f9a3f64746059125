"""The report on the crash cases: a page for people, and the same as JSON."""

import json
from collections import Counter
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
    by_case = {(result.case.point, result.case.fault): result for result in results}
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
            + " | ".join(_format_cell(by_case.get((place, fault))) for fault in faults)
            + " |"
            for place in failpoints
        ),
        "",
    ]


def _format_cell(result: ScenarioResult | None) -> str:
    if result is None:
        return ""
    if result.violations:
        return f"**{len(result.violations)} broken**"
    return str(result.reached or "·")
