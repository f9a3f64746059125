"""What a scenario of the benchmarks is, and what each run of one gets."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.bench.comparison import Rounds, Target


class Size(StrEnum):
    """How much is measured."""

    TINY = "tiny"
    """Almost nothing: it shows that a scenario works, and its numbers mean nothing."""
    QUICK = "quick"
    """All scenarios within ten minutes, on two quiet cores."""
    FULL = "full"
    """Enough for numbers that are worth a page."""


ROUNDS: Final = {Size.TINY: 1, Size.QUICK: 2, Size.FULL: 5}
"""How often everything is measured that is compared with something else."""


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One run of one scenario."""

    folder: Path
    """An empty folder for its servers."""
    size: Size
    report: Callable[[str], None]
    """Told what is measured now, a line at a time."""

    @property
    def rounds(self) -> int:
        """How often each measurement is repeated."""
        return ROUNDS[self.size]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that is measured by itself."""

    name: str
    """For the option `--only`."""
    title: str
    description: str
    """What is done to measure it: a paragraph of the page."""
    measure: Callable[[BenchRun], Rounds]
    targets: tuple[Target, ...] = ()
