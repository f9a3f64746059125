"""The picture of the simulated cadence: `python -m tests.bench.cadence_picture [FILE]`."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.scenarios.cadence import PollCost, Population, measure_population
from tests.support.paths import DOCS

mpl.use("Agg")  # draws into files; no window

PICTURE: Final = DOCS / "images" / "cadence.png"
_RUNS: Final = 1_000_000
_SUBJECTS: Final = (1000, 3000, 10_000, 30_000, 100_000)
_STAFFING: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
_STAFFED: Final = Population(10_000, _RUNS, timedelta(hours=1), prints=False)
_STYLES: Final = (
    (timedelta(hours=1), False, "tab:blue", "-"),
    (timedelta(hours=1), True, "tab:blue", "--"),
    (timedelta(hours=24), False, "tab:orange", "-"),
    (timedelta(hours=24), True, "tab:orange", "--"),
)


def draw(path: Path) -> None:
    """Simulate a million open runs of few and of many people, and draw what comes of it."""
    drawn: tuple[Any, Any] = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    figure, ((quota, delay), (workers, lateness)) = drawn
    for duration, prints, colour, line in _STYLES:
        measured = [
            measure_population(Population(subjects, _RUNS, duration, prints), PollCost())
            for subjects in _SUBJECTS
        ]
        hours = duration / timedelta(hours=1)
        label = f"runs of {hours:g} h that {'print' if prints else 'wait for hardware'}"
        for axis, measure in (
            (quota, "most_quota_percent"),
            (delay, "delay_p50_seconds"),
            (workers, "workers"),
        ):
            axis.plot(
                _SUBJECTS,
                [each[measure] for each in measured],
                color=colour,
                linestyle=line,
                marker="o",
                label=label,
            )
    quota.axhline(100, color="black", linewidth=0.8)
    quota.set_title("Requests of the busiest person, % of a free user's quota")
    delay.set_title("Seconds from the end of a run until it is seen, median")
    workers.set_title("Workers that keep up, with a fifth of their time to spare")
    workers.set_yscale("log")
    for axis in (quota, delay, workers):
        axis.set_xscale("log")
        axis.set_xlabel("people, who have a million open runs together")
        axis.grid(alpha=0.3)
    quota.set_ylim(bottom=0)
    delay.set_ylim(bottom=0)
    delay.legend(fontsize=8, loc="upper left")
    _draw_lateness(lateness)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _draw_lateness(axis: Any) -> None:
    measured = [
        measure_population(_STAFFED, PollCost(), staffing=staffing) for staffing in _STAFFING
    ]
    percent = [100 * staffing for staffing in _STAFFING]
    for measure, label in (("late_most_seconds", "latest poll"), ("late_p50_seconds", "median")):
        axis.plot(percent, [each[measure] for each in measured], marker="o", label=label)
    axis.set_title("Seconds that polls are late, if there are too few workers")
    axis.set_xlabel(f"% of the workers that keep up ({_STAFFED.subjects:,} people, waiting runs)")
    axis.invert_xaxis()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
