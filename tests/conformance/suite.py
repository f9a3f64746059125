"""One run of the official suite against a URL, and its results."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import override

from tests.interop import node_packages

REVISIONS: Final = ("2025-11-25", "2026-07-28")
_PROGRAM: Final = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
_RESULT_FOLDER: Final = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")
_FAILED_STATUSES: Final = ("FAILURE", "WARNING")
"""A warning is a SHOULD that does not hold; we want to hold those too."""


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """How one scenario went."""

    passed: int
    """Checks that passed."""
    failures: tuple[str, ...]
    """What is wrong, a sentence for each check."""
    untestable: tuple[str, ...]
    """Checks that a server without the suite's own tools gives it no occasion for."""


def run_suite(url: str, revision: str, results: Path) -> dict[str, ConformanceResult]:
    """Run every scenario that a revision of the specification requires, or that is run beside.

    Raises:
        RuntimeError: the suite could not be installed, or did not come to its end.
    """
    place = node_packages.install_packages()
    command = ["node", _PROGRAM, "server", "--url", url, "--requirements", revision]
    done = node_packages.run_node([*command, "--output-dir", str(results)], place)
    if "Total:" not in done.stdout:
        raise RuntimeError(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    scenarios = {
        match["scenario"]: _read_result(folder / "checks.json")
        for folder in results.iterdir()
        if (match := _RESULT_FOLDER.fullmatch(folder.name))
    }
    return dict(sorted(scenarios.items()))


class _Details(BaseModel):
    untestable: bool = False


class _Check(BaseModel):
    id: str
    status: str
    sentence: Annotated[str | None, Field(alias="errorMessage")] = None
    details: _Details | None = None

    @property
    def is_untestable(self) -> bool:
        return self.details is not None and self.details.untestable

    @override
    def __str__(self) -> str:
        return f"{self.id}: {self.sentence or self.status}"


_CHECKS: Final = TypeAdapter(list[_Check])


def _read_result(results: Path) -> ConformanceResult:
    checks = _CHECKS.validate_json(results.read_bytes())
    wrong = [check for check in checks if check.status in _FAILED_STATUSES]
    return ConformanceResult(
        passed=sum(check.status == "SUCCESS" for check in checks),
        failures=tuple(str(check) for check in wrong if not check.is_untestable),
        untestable=tuple(check.id for check in wrong if check.is_untestable),
    )
