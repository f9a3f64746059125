"""Problems in the results of the suite, and the record of them."""

from collections.abc import Iterable, Mapping

from tests.conformance.exclusions import NOT_OFFERED, SERVICE_SCENARIOS
from tests.conformance.suite import ConformanceResult

SuiteResults = Mapping[str, ConformanceResult]


def find_failures(revision: str, results: SuiteResults) -> list[str]:
    """Return the problems of a run against our middleware with the suite's own tools."""
    excused = NOT_OFFERED[revision]
    problems = [
        f"{name}: {trouble}"
        for name, scenario in results.items()
        for trouble in (*scenario.failures, *scenario.untestable)
        if name not in excused
    ]
    problems += [f"{name} is excused, and was not run" for name in excused.keys() - results.keys()]
    problems += [
        f"{name} is excused, and has no trouble"
        for name in excused.keys() & results.keys()
        if not results[name].failures
    ]
    return problems


def find_service_failures(revision: str, results: SuiteResults) -> list[str]:
    """Return the problems of a run against our service, which has none of the suite's tools."""
    problems = [f"{name} was not run" for name in SERVICE_SCENARIOS[revision] - results.keys()]
    for name in SERVICE_SCENARIOS[revision] & results.keys():
        problems += [f"{name}: {trouble}" for trouble in results[name].failures]
        if not results[name].passed:
            problems.append(f"{name}: nothing was checked")
    return problems


def format_report(runs: Mapping[str, tuple[SuiteResults, SuiteResults]]) -> str:
    """Format the results of both servers at each revision as Markdown."""
    counted = ("scenarios", "pass", "skipped by the suite", "not offered")
    columns = ("requirement set", *counted, "pass against the service itself")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    details: list[str] = []
    for revision, (results, _) in runs.items():
        excused = NOT_OFFERED[revision]
        good = [name for name in results if name not in excused]
        passed = [name for name in good if results[name].passed]
        idle = [name for name in good if not results[name].passed]
        counts = (
            len(results),
            len(passed),
            len(idle),
            len(excused),
            len(SERVICE_SCENARIOS[revision]),
        )
        lines.append(f"| {revision} | {' | '.join(map(str, counts))} |")
        shown = ", ".join(_format_scenario(name, revision) for name in passed)
        details += ["", f"Pass in {revision}, in bold against the service itself too: {shown}."]
        details += ["", f"Skipped by the suite: {_format_names(idle)}.", ""]
        for why in dict.fromkeys(excused.values()):
            listed = _format_names(name for name in excused if excused[name] == why)
            details.append(f"- Not offered: {listed}: {why}")
    return "\n".join(lines + details)


def _format_names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _format_scenario(name: str, revision: str) -> str:
    return f"**`{name}`**" if name in SERVICE_SCENARIOS[revision] else f"`{name}`"
