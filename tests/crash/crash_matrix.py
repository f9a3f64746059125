"""The crash cases: every failpoint in the source, under every fault."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Final

from tests.crash.faulty_hub import Fault
from tests.support.paths import PACKAGE_FOLDERS

_FAILPOINT_CALL: Final = re.compile(r'hit_failpoint\("([a-z.]+)"\)')

POLICIES: Final = ("fail", "relaunch")
"""What becomes of a launch whose outcome is not known: `HOLDFAST_UNKNOWN`."""


@dataclass(frozen=True, slots=True)
class CrashCase:
    """One case: where a process is killed, and what else goes wrong."""

    point: str
    fault: Fault
    unknown: str = "fail"

    @property
    def in_service(self) -> bool:
        """Whether it is the service that ends, and not a worker."""
        return self.point.startswith(("submit.", "cancel."))

    def __str__(self) -> str:
        return f"{self.point}/{self.fault}/{self.unknown}"


def find_failpoints() -> list[str]:
    """Read the names of all failpoints out of the source."""
    files = [path for folder in PACKAGE_FOLDERS for path in folder.rglob("*.py")]
    return sorted(
        {name for path in files for name in _FAILPOINT_CALL.findall(path.read_text("utf-8"))}
    )


def build_matrix() -> list[CrashCase]:
    """Return every place under every fault, with each policy for doubtful launches."""
    return [CrashCase(*case) for case in product(find_failpoints(), Fault, POLICIES)]
