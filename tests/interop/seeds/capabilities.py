"""What a run with a real system shows: one line for each system and capability.

A test has the marker `capability(SYSTEM, "what it shows")`. Its line is ● if it passes, or the
reason that it gives with the fixture `limits`: what the other system cannot do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import python_environments
from tests.interop.locked_versions import read_locked_version

MARKER: Final = "capability"
SECTION: Final = "seeds"
SHOWN: Final = "●"


@dataclass(frozen=True, slots=True)
class System:
    """A system of another maker, with the package that is run."""

    seed: str
    """Its number in the comparison, A1 to A5."""
    name: str
    package: str
    lock: Path
    folder: str = ""
    """Of the package in the lock file of npm, where that is not its name."""

    @property
    def version(self) -> str:
        """Return the version of the package that is locked."""
        return read_locked_version(self.lock, self.folder or self.package)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one capability."""

    system: System
    capability: str
    outcome: str
    """● or the reason why not."""

    @property
    def row(self) -> str:
        """Return the line of the page."""
        package = f"`{self.system.package}` {self.system.version}"
        cells = (self.system.seed, self.system.name, package, self.capability, self.outcome)
        return f"| {' | '.join(cells)} |"


AUTHGENT: Final = System(
    "A3",
    "external authorization server",
    "authgent-server",
    python_environments.lock_path("authgent"),
)


REASONS: Final = pytest.StashKey[list[str]]()
FINDINGS: Final = pytest.StashKey[list[Finding]]()


def read_finding(item: Any) -> Finding | None:
    """Return what a passed test has shown; None if it has no marker."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    system, capability = marker.args
    return Finding(system, capability, "; ".join(item.stash.get(REASONS, [])) or SHOWN)
