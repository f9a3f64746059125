"""`holdfast status`: workers, queues, holds, upstream and last errors, as tables."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from rich.console import Console
from rich.table import Table

from schema.accounts.row_security import open_worker_database
from schema.common.durations import format_duration
from schema.common.text import format_count
from schema.jobs.monitoring import heartbeats, queue_history, queue_statistics
from schema.jobs.monitoring.heartbeats import HEARTBEAT_TIMEOUT, HeartbeatAge
from schema.jobs.monitoring.queue_history import QueueHistory
from schema.jobs.monitoring.queue_statistics import QueueStatistics
from schema.settings import Settings
from service.cli.doctor import Finding, check_hub, check_redis

_MICRO = 1_000_000
_BLOCKS: Final = "·▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = "_.:-=+*#@"
"""For a terminal that cannot show the blocks."""


async def show_status(settings: Settings, console: Console) -> None:
    """Read the database and ask what else is needed, and print what is there.

    Raises:
        Unavailable: the database cannot be reached.
    """
    async with (
        open_worker_database(
            str(settings.database_url),
            application_name="holdfast-status",
            pooled=settings.pooled,
        ) as database,
        database.transaction() as tx,
    ):
        workers = await heartbeats.list_heartbeats(tx)
        statistics = await queue_statistics.read_queue_statistics(tx)
        history = await queue_history.read_queue_history(tx)
        unowned = await queue_statistics.count_unowned(tx)
    console.print(_format_workers(workers))
    draw = partial(draw_sparkline, levels=_BLOCKS if "utf" in console.encoding else _ASCII_LEVELS)
    console.print(_format_queues(statistics, history, draw))
    console.print(_format_state(statistics, unowned))
    console.print(_format_upstream([await check_redis(settings), await check_hub(settings)]))
    errors = [worker for worker in workers if worker.last_error is not None]
    if errors:
        console.print(_format_errors(errors))


def _format_workers(workers: Sequence[HeartbeatAge]) -> Table:
    table = Table("worker", "", "release", "heard of", "attempts", show_edge=False, title="Workers")
    for worker in workers:
        table.add_row(
            worker.name,
            _describe_worker(worker),
            worker.version,
            f"{_round(worker.silent_for)} ago",
            str(worker.attempts),
        )
    if not workers:
        table.add_row("none", "[red]start one with `holdfast worker`[/]", "", "", "")
    return table


def _describe_worker(worker: HeartbeatAge) -> str:
    if worker.silent_for > HEARTBEAT_TIMEOUT:
        return "[red]gone[/]"
    if worker.idle_for > HEARTBEAT_TIMEOUT:
        return "[red]stuck[/]"
    return "[green]works[/]"


def draw_sparkline(values: Sequence[int], *, levels: str) -> str:
    """Draw values beside one another, and write the largest of them.

    Args:
        values: none of them below 0.
        levels: a character for 0, and others for what is above it, the lowest first.
    """
    largest = max(values, default=0)
    steps = len(levels) - 1
    heights = [0 if value == 0 else max(1, value * steps // largest) for value in values]
    return f"{''.join(levels[height] for height in heights)} {largest}" if largest else ""


def _format_queues(
    statistics: QueueStatistics,
    history: Mapping[str, QueueHistory],
    draw: Callable[[Sequence[int]], str],
) -> Table:
    table = Table(
        "kind", "due", "later", "held", "after others", "oldest wait", "under way",
        "waiting, last hour", "ended, last hour",
        show_edge=False, title="Queues",
    )  # fmt: skip
    kinds = {kind for kind, _ in (*statistics.queued, *statistics.open_runs)} | set(history)
    for kind in sorted(kinds):
        counts = [
            str(statistics.queued.get((kind, word), 0))
            for word in ("due", "later", "held", "dependency")
        ]
        under_way = sum(n for (name, _), n in statistics.open_runs.items() if name == kind)
        wait = _round(timedelta(seconds=statistics.oldest_wait.get(kind, 0)))
        past = history.get(kind)
        lines = ("", "") if past is None else (draw(past.waiting), draw(past.ended))
        table.add_row(kind, *counts, wait, str(under_way), *lines)
    if not kinds:
        table.add_row("nothing waits", "0", "0", "0", "0", "", "0", "", "")
    return table


def _format_state(statistics: QueueStatistics, unowned: int) -> Table:
    table = Table("what", "", show_edge=False, title="State")
    for hold, subjects in sorted(statistics.holds.items()):
        table.add_row(f"hold: {hold}", format_count(subjects, "subject"))
    table.add_row("runs to kill", str(statistics.runs_to_kill))
    table.add_row("money held", f"${statistics.held_micro_usd / _MICRO:,.2f}")
    table.add_row("unowned rows", f"[red]{unowned}[/]" if unowned else "0")
    return table


def _format_upstream(findings: Sequence[Finding]) -> Table:
    table = Table("upstream", "", "finding", show_edge=False, title="Upstream")
    for finding in findings:
        state = "[green]well[/]" if finding.is_ok else "[red]bad[/]"
        table.add_row(finding.component, state, finding.message)
    return table


def _format_errors(workers: Sequence[HeartbeatAge]) -> Table:
    table = Table("worker", "at", "last error", show_edge=False, title="Last errors")
    for worker in workers:
        at = worker.last_error_at
        table.add_row(worker.name, f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "", worker.last_error)
    return table


def _round(age: timedelta) -> str:
    return format_duration(timedelta(seconds=max(0, round(age.total_seconds()))))
