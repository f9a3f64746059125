"""`holdfast reconcile`: the comparison of a restored database, at once and with a table.

The workers do the same by themselves. The command shows what they find, and can cancel instead of
adopting.
"""

import argparse
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio
from rich.console import Console
from rich.table import Column, Table

from schema.accounts import restored_subjects
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.text import format_count
from workers.context import Worker
from workers.loops.reconcile_runs import reconcile_runs
from workers.loops.restored_subjects import Comparison, RunAction, compare_subject

NAME: Final = "reconcile"
_MAX_SUBJECTS: Final = 100_000
_MAX_CONCURRENT: Final = 8
_STOP_TIMEOUT: Final = timedelta(minutes=2)
_POLL_SECONDS: Final = 1.0
_COUNT_LIVE: Final = """
SELECT count(*) FROM remote_run WHERE id = ANY($1::uuid[]) AND state <> 'ended'
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments of the command, which the command line of the service has checked."""
    parser = argparse.ArgumentParser(prog=f"holdfast {NAME}")
    parser.add_argument("--cancel", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args(arguments)


async def run_reconcile(worker: Worker, options: argparse.Namespace, console: Console) -> int:
    """Compare every subject that is not reconciled, and print what was found.

    Returns:
        0 if all are reconciled, 1 if something is left to do.
    """
    async with worker.database.transaction() as tx:
        unreconciled = await restored_subjects.count_unreconciled_subjects(tx)
        leases = await restored_subjects.lease_restored_subjects(
            tx,
            limit=_MAX_SUBJECTS,
            lease=worker.settings.lease,
            is_forced=True,
            is_dry_run=options.dry_run,
        )
    if not unreconciled:
        console.print("Nothing is to be compared: every subject is reconciled.")
        return 0
    limiter = anyio.CapacityLimiter(_MAX_CONCURRENT)
    comparisons = list[Comparison]()

    async with anyio.create_task_group() as group:
        for lease in leases:

            async def compare(lease: restored_subjects.RestoreLease = lease) -> None:
                async with limiter:
                    comparisons.append(
                        await compare_subject(
                            worker, lease, cancels=options.cancel, dry_run=options.dry_run
                        )
                    )

            group.start_soon(compare)
    console.print(_format_table(comparisons))
    doomed = [
        finding.run.run_id
        for comparison in comparisons
        for finding in comparison.findings
        if finding.action in {RunAction.CANCELLED, RunAction.KILLED}
    ]
    if doomed and not options.dry_run:
        console.print(await _stop_runs(worker, doomed))
    for sentence in _summarize(comparisons, without_token=unreconciled - len(leases)):
        console.print(sentence, soft_wrap=True)
    if options.dry_run:
        console.print("This was a dry run: nothing was changed.")
    return 0 if all(each.window_left is None and each.error is None for each in comparisons) else 1


async def _stop_runs(worker: Worker, run_ids: Sequence[UUID]) -> str:
    """Send the cancel requests, and look until the Hub shows that the runs are over."""
    live = len(run_ids)
    with anyio.move_on_after(_STOP_TIMEOUT.total_seconds()):
        while live:
            await reconcile_runs(worker)
            async with worker.database.transaction() as tx:
                live = await tx.fetchval(_COUNT_LIVE, run_ids)
            if live:
                await anyio.sleep(_POLL_SECONDS)  # between two looks at what the Hub does
    if live:
        return f"{format_count(live, 'job')} at the Hub still to be seen stopped: workers go on."
    return f"{format_count(len(run_ids), 'job')} at the Hub seen to be stopped."


def _format_table(comparisons: Iterable[Comparison]) -> Table:
    table = Table(
        Column("subject"),
        Column("namespace"),
        # Whole also in a narrow terminal or a file: with a part nobody finds the job.
        Column("handle", no_wrap=True),
        Column("job at the Hub", overflow="fold"),
        Column("stage"),
        Column("what became of it"),
    )
    for comparison in comparisons:
        for finding in comparison.findings:
            run = finding.run
            handle = ids.format_handle(ids.HandleKind.JOB, run.job_id)
            cells = (run.namespace, handle, run.remote_id, run.stage or "over", finding.action)
            table.add_row(comparison.lease.name, *cells)
    return table


def _summarize(comparisons: Sequence[Comparison], *, without_token: int) -> Iterable[str]:
    over = [each for each in comparisons if each.error is None and each.window_left is None]
    waiting = [each for each in comparisons if each.window_left is not None]
    if over:
        yield f"{format_count(len(over), 'subject')} reconciled: their jobs are launched again."
        calls, firings = sum(c.failed_calls for c in over), sum(c.missed_firings for c in over)
        if calls:
            yield (
                f"{format_count(calls, 'call')} failed as outcome_unknown, because nothing shows "
                f"whether they were carried out after the backup."
            )
        if firings:
            yield f"{format_count(firings, 'firing')} of schedules counted as missed."
    if waiting:
        window = max(each.window_left or timedelta(0) for each in waiting)
        yield (
            f"{format_count(len(waiting), 'subject')} compared, and compared again until the "
            f"listings are certain ({format_duration(window)} more at least): workers do it by "
            f"themselves, and nothing of theirs is launched until then."
        )
    for comparison in comparisons:
        if comparison.error is not None:
            yield f"{comparison.lease.name} could not be compared: {comparison.error}"
    if without_token:
        yield (
            f"{format_count(without_token, 'subject')} without a usable token: each is compared "
            f"when they call again, and nothing of theirs is launched until then."
        )
