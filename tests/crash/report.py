"""The report on the crash cases: a page for people, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.crash.scenario import ScenarioResult


def write_report(verdicts: Sequence[ScenarioResult], folder: Path, *, seconds: float) -> Path:
    """Write both into a folder; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = [asdict(verdict) for verdict in verdicts]
    (folder / "report.json").write_text(json.dumps(whole, indent=1, default=str), "utf-8")
    page = folder / "report.md"
    page.write_text("\n".join(_format_page(verdicts, seconds)), "utf-8")
    return page


def _format_page(verdicts: Sequence[ScenarioResult], seconds: float) -> list[str]:
    faults = sorted({verdict.scene.fault for verdict in verdicts})
    places = sorted({verdict.scene.point for verdict in verdicts})
    by_scene = {(v.scene.point, v.scene.fault): v for v in verdicts}
    states: Counter[str] = Counter()
    for verdict in verdicts:
        states.update(verdict.books.states)
    ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    violations = [(v.scene, text) for v in verdicts for text in v.violations]
    return [
        "# Crash matrix",
        "",
        f"{len(verdicts)} scenes in {seconds:.0f} s: {len(places)} places, {len(faults)} faults.",
        f"{sum(v.reached for v in verdicts)} processes were ended at their place.",
        f"{sum(v.books.handles for v in verdicts)} handles: {ended}.",
        f"{sum(v.books.created for v in verdicts)} jobs at the Hub.",
        f"{sum(v.books.surplus for v in verdicts)} of them were surplus, found and killed.",
        "",
        f"**{len(violations)} violations.**",
        *(f"- `{scene}`: {text}" for scene, text in violations),
        "",
        "How often a process was ended at the place; `·` where the fault leaves no way there.",
        "",
        f"| place | {' | '.join(faults)} |",
        f"|---|{'---|' * len(faults)}",
        *(
            f"| {place} | "
            + " | ".join(_format_cell(by_scene.get((place, fault))) for fault in faults)
            + " |"
            for place in places
        ),
        "",
    ]


def _format_cell(verdict: ScenarioResult | None) -> str:
    if verdict is None:
        return ""
    if verdict.violations:
        return f"**{len(verdict.violations)} broken**"
    return str(verdict.reached or "·")
