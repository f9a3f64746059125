"""Targets of `docs/performance.md`, and what was measured for them in several rounds.

A target is one of three: a multiple of another measurement of the same round (a peer's, or our own
at another size), a difference to one, or a limit on a measurement alone.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

Rounds = dict[str, list[dict[str, float]]]
"""For each measured thing, by name: its measures in each round."""

_UNITS: Final = (("_per_second", "/s"), ("_ms", "ms"), ("_percent", "%"), ("seconds", "s"))
"""The unit of a measure, by the end of its name."""


def find_unit(measure: str) -> str:
    """Return the unit that the name of a measure ends with; empty if it is a number of things."""
    return next((unit for ending, unit in _UNITS if measure.endswith(ending)), "")


def format_number(value: float, sign: str = "") -> str:
    """Write a number with as many digits as a reader can use.

    Args:
        sign: "+" to write that of a positive number too.
    """
    return f"{value:{sign},.0f}" if abs(value) >= 100 or value == 0 else f"{value:{sign}.2f}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a measure of ours should be."""

    measure: str
    """A field of the measurement."""
    ours: str
    peer: str | None
    """The measurement that it is compared with; None if the limit is for ours alone."""
    limit: float
    is_rate: bool = False
    """Whether more is better: then the limit is the least, else the most."""
    is_difference: bool = False
    """Whether the peer's is subtracted, and not what ours is divided by."""
    note: str = ""
    """What keeps ours from the limit, in a few words, where that is known. Shown if missed."""

    @property
    def is_ratio(self) -> bool:
        """Whether the limit is a multiple of the peer's."""
        return self.peer is not None and not self.is_difference

    def format_value(self, value: float) -> str:
        """Write a value as the target is written: a multiple, or a quantity with its unit."""
        if self.is_ratio:
            return f"{value:.2f} x"
        sign = "+" if self.is_difference else ""
        return f"{format_number(value, sign)} {find_unit(self.measure)}".rstrip()

    @property
    def requirement(self) -> str:
        """The limit, and on which side of it the value should be."""
        comparison = "≥" if self.is_rate else "≤"
        if self.is_ratio:
            return f"{comparison} {self.limit:g} x"
        sign = "+" if self.is_difference else ""
        return f"{comparison} {self.limit:{sign},g} {find_unit(self.measure)}".rstrip()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A target, and the values that were measured for it."""

    target: Target
    values: list[float] = field(default_factory=list[float])
    """One of each round: ratios, differences or quantities, as the target is one."""

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the median meets the target."""
        limit = self.target.limit
        return self.value >= limit if self.target.is_rate else self.value <= limit

    @property
    def verdict(self) -> str:
        """Whether the target is met, and if not, what is known of the cause."""
        if self.is_met:
            return "met"
        return f"not met: {self.target.note}" if self.target.note else "not met"


def compare(rounds: Rounds, targets: Iterable[Target]) -> list[Comparison]:
    """Compare measurements with the targets, round by round.

    A target whose measure is missing is left out.
    """
    comparisons = [Comparison(target, _find_values(rounds, target)) for target in targets]
    return [comparison for comparison in comparisons if comparison.values]


def _find_values(rounds: Rounds, target: Target) -> list[float]:
    ours = [each.get(target.measure) for each in rounds.get(target.ours, [])]
    if target.peer is None:
        return [value for value in ours if value is not None]
    peers = [each.get(target.measure) for each in rounds.get(target.peer, [])]
    if not ours or not peers:
        return []  # one of the two is of a larger run
    if target.is_difference:
        return [
            value - other
            for value, other in zip(ours, peers, strict=True)
            if value is not None and other is not None
        ]
    return [value / other for value, other in zip(ours, peers, strict=True) if value and other]


def collect(results: list[tuple[str, dict[str, float]]]) -> Rounds:
    """Sort measurements, in the order in which they were made, by what was measured."""
    rounds: Rounds = defaultdict(list)
    for name, measures in results:
        rounds[name].append(measures)
    return dict(rounds)


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
    Target("wake_p95_ms", "holdfast", "arq (tuned)", 1.0),
    Target("wake_p95_ms", "holdfast, without Redis", None, 1200),
    Target("cpu_per_job_ms", "holdfast", "procrastinate", 1.0),
)
TOOL_TARGETS: Final = (
    Target("calls_per_second", "job_status", "bare SDK", 0.95, is_rate=True),
    Target("calls_per_second", "job_status", "FastMCP", 0.95, is_rate=True),
    Target("calls_per_second", "list_hardware", "bare SDK", 1.5, is_rate=True),
    Target("calls_per_second", "list_jobs", "bare SDK", 0.9, is_rate=True),
    Target("calls_per_second", "dry_run", "bare SDK", 0.8, is_rate=True),
)
LAUNCH_TARGETS: Final = (
    Target("p50_ms", "launch_job", "list_hardware (constant)", 3.0, is_difference=True),
)
WAITER_TARGETS: Final = (
    Target("change_p95_ms", "1,000 waiters", None, 250),
    Target("change_p95_ms", "5,000 waiters", None, 1000),
    Target("connections", "1,000 waiters", None, 1),
    Target("connections", "5,000 waiters", None, 1),
)
GROWTH_TARGETS: Final = tuple(
    Target(f"{operation}_p50_ms", f"{jobs:,} finished jobs", "1,000 finished jobs", 1.5, note=note)
    for jobs in (10_000, 100_000, 1_000_000)
    for operation, note in (
        ("job_status", ""),
        ("list_jobs", ""),
        ("list_by_label", "labels have no index"),
        ("claim", ""),
    )
)
RECOVERY_TARGETS: Final = (Target("recovery_seconds", "holdfast", "arq (as documented)", 0.3),)
OBSERVATION_TARGETS: Final = (
    Target("hub_calls_percent", "runs that wait for hardware", None, 2),
    Target("database_seconds", "runs that wait for hardware", None, 5),
)
IDLE_TARGETS: Final = (
    Target("cpu_percent", "idle worker", None, 4),
    Target("statements_per_second", "idle worker", None, 3),
)
FIRST_START_TARGETS: Final = (
    Target("ready_seconds", "demo, cold", None, 25),
    Target("ready_seconds", "demo, warm", None, 5),
)
