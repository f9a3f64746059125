"""The command that takes out one guard after another and checks that a test fails.

    python3 -m tests.mutants [NAME ...]

Two copies of the work tree are tested side by side, each with one guard missing at a time. Ends
with 1 if a guard was not missed by its tests, and with 2 if they fail with every guard in place.
"""

import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
from rich.console import Console
from rich.table import Table

from tests.mutants.all_guards import ALL_GUARDS
from tests.mutants.mutant import Mutant
from tests.mutants.worktree_copy import PytestRun, WorktreeCopy, copy_worktree

COPY_COUNT: Final = 2
_INTERRUPTED: Final = 128 + signal.SIGINT

RunsByMutant = dict[str, PytestRun]


def main(names: Sequence[str]) -> int:
    """Test without the guards named, or without each there is."""
    if unknown := set(names) - {mutant.name for mutant in ALL_GUARDS}:
        sys.exit(f"There is no guard named {', '.join(sorted(unknown))}.")
    chosen = [mutant for mutant in ALL_GUARDS if not names or mutant.name in names]
    with copy_worktree(COPY_COUNT) as lanes:
        return anyio.run(_run, lanes, chosen)


async def _run(lanes: list[WorktreeCopy], chosen: list[Mutant]) -> int:
    code = _INTERRUPTED
    async with anyio.create_task_group() as tasks:

        async def stop_when_told() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

        tasks.start_soon(stop_when_told)
        code = await _try_mutants(lanes, chosen)
        tasks.cancel_scope.cancel()
    return code


async def _try_mutants(lanes: list[WorktreeCopy], chosen: list[Mutant]) -> int:
    console = Console()
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    with console.status("Testing with every guard in place"):
        intact = await lanes[0].run_tests(tests)
    if intact.exit_code != 0:
        console.print(intact.output, "The tests fail with every guard in place.", markup=False)
        return 2
    runs: RunsByMutant = {}
    remaining = iter(chosen)
    with console.status("Testing without one guard at a time") as status:

        async def take_turns(lane: WorktreeCopy) -> None:
            for mutant in remaining:
                runs[mutant.name] = await lane.run_without_guard(mutant)
                console.print(_describe_run(mutant, runs[mutant.name]), highlight=False)
                status.update(f"{len(runs)} of {len(chosen)} guards tried")

        async with anyio.create_task_group() as group:
            for lane in lanes:
                group.start_soon(take_turns, lane)
    console.print(_format_table(chosen, runs))
    caught = sum(run.caught_by is not None for run in runs.values())
    console.print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


def _describe_run(mutant: Mutant, run: PytestRun) -> str:
    """Say how one guard fared as soon as it is known: the table of all comes after an hour."""
    outcome = f"caught by {run.caught_by}" if run.caught_by else f"[red]{run.failure_reason}[/]"
    return f"{mutant.name}: {outcome} ({run.seconds:.1f} s)"


def _format_table(chosen: Iterable[Mutant], runs: RunsByMutant) -> Table:
    table = Table("guard", "file", "caught by", "seconds")
    for column in table.columns:
        column.overflow = "fold"
    table.columns[-1].justify = "right"
    for mutant in chosen:
        run = runs[mutant.name]
        caught_by = run.caught_by or f"[bold red]{run.failure_reason}"
        table.add_row(mutant.name, mutant.path, caught_by, f"{run.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
