"""Ratios of ours to a peer's, of several rounds, and the targets of `docs/performance.md`."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Final

Rounds = dict[str, list[dict[str, float]]]
"""For each measured thing, by name: its measures in each round."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a measure of ours should be, as a multiple of a peer's in the same round."""

    measure: str
    """A field of the measurement."""
    ours: str
    peer: str
    limit: float
    is_rate: bool = False
    """Whether more is better: then the limit is the least, else the most."""

    @property
    def sign(self) -> str:
        """How the ratio compares with the limit when the target is met."""
        return "≥" if self.is_rate else "≤"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A target, and the ratios that were measured."""

    target: Target
    ratios: list[float] = field(default_factory=list[float])
    """One of each round."""

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    @property
    def is_met(self) -> bool:
        """Whether the median meets the target."""
        limit = self.target.limit
        return self.ratio >= limit if self.target.is_rate else self.ratio <= limit


QUEUE_TARGETS: Final = (
    Target("submit_p50_ms", "holdfast", "procrastinate", 1.0),
    Target("submit_p50_ms", "holdfast", "dbos", 0.7),
    Target("submit_p50_ms", "holdfast", "pgqueuer", 1.3),
    Target("submits_per_second", "holdfast", "procrastinate", 1.0, is_rate=True),
    Target("submits_per_second", "holdfast, 20 subjects", "procrastinate", 1.2, is_rate=True),
    Target("submits_per_second", "holdfast, 20 subjects", "dbos", 1.5, is_rate=True),
    Target("ends_per_second", "holdfast", "procrastinate", 1.5, is_rate=True),
    Target("ends_per_second", "holdfast", "dbos", 2.0, is_rate=True),
    Target("ends_per_second", "holdfast", "arq (tuned)", 0.7, is_rate=True),
    Target("ends_per_second", "holdfast", "pgqueuer", 1.0, is_rate=True),
    Target("wake_p50_ms", "holdfast", "procrastinate", 1.5),
    Target("wake_p50_ms", "holdfast", "arq (tuned)", 1.0),
    Target("cpu_ms_per_job", "holdfast", "procrastinate", 1.0),
)
TOOL_TARGETS: Final = (
    Target("calls_per_second", "job_status", "bare SDK", 0.95, is_rate=True),
    Target("calls_per_second", "job_status", "FastMCP", 0.95, is_rate=True),
    Target("calls_per_second", "list_hardware", "bare SDK", 1.5, is_rate=True),
    Target("calls_per_second", "list_jobs", "bare SDK", 0.9, is_rate=True),
    Target("calls_per_second", "dry_run", "bare SDK", 0.8, is_rate=True),
)


def compare(rounds: Rounds, targets: tuple[Target, ...]) -> list[Comparison]:
    """Divide ours by the peer's, round by round."""
    comparisons: list[Comparison] = []
    for target in targets:
        pairs = zip(rounds.get(target.ours, []), rounds.get(target.peer, []), strict=True)
        ratios = [
            ours[target.measure] / peer[target.measure]
            for ours, peer in pairs
            if ours.get(target.measure) and peer.get(target.measure)
        ]
        if ratios:
            comparisons.append(Comparison(target, ratios))
    return comparisons


def collect(results: list[tuple[str, dict[str, float]]]) -> Rounds:
    """Sort measurements, in the order in which they were made, by what was measured."""
    rounds: Rounds = defaultdict(list)
    for name, measures in results:
        rounds[name].append(measures)
    return dict(rounds)
