"""Metrics of a worker: its slots and loops, and the queues of all subjects in the database.

The service's role sees one subject at a time, so what concerns all of them is read here. A scrape
reads it at most once in five seconds, and without a scrape nothing is read.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

import anyio
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from schema.common.errors import Unavailable
from schema.jobs.monitoring import queue_statistics
from schema.jobs.monitoring.queue_statistics import QueueStatistics
from schema.workspaces import webhook_queue
from schema.workspaces.webhook_queue import WebhookStatistics
from workers.context import Worker
from workers.loops.send_webhooks import WEBHOOK_OUTCOMES

STATISTICS_INTERVAL: Final = timedelta(seconds=5)
_UNOWNED_INTERVAL: Final = timedelta(minutes=1)
_MICRO: Final = 1_000_000

log = structlog.stdlib.get_logger()


class WorkerCollector(Collector):
    """Reads a worker, and the newest numbers from the database, at each scrape."""

    def __init__(self, worker: Worker) -> None:
        """Register with the registry of the process."""
        self._worker = worker
        self._metrics = worker.metrics
        self._statistics: QueueStatistics | None = None
        self._webhooks: WebhookStatistics | None = None
        self._unowned: int | None = None
        self._read_at = self._counted_at = -_UNOWNED_INTERVAL.total_seconds()
        self._lock = anyio.Lock()
        worker.metrics.registry.register(self)

    async def render(self) -> bytes:
        """Write all metrics of the process, with numbers that are at most a few seconds old."""
        async with self._lock:
            await self._refresh()
        return self._metrics.render()

    async def _refresh(self) -> None:
        """Read the database if what was read is old; without an answer its series are left out."""
        now = time.monotonic()
        if now - self._read_at < STATISTICS_INTERVAL.total_seconds():
            return
        self._read_at = now
        try:
            async with self._worker.database.transaction() as tx:
                self._statistics = await queue_statistics.read_queue_statistics(tx)
                self._webhooks = await webhook_queue.read_webhook_statistics(tx)
                if now - self._counted_at >= _UNOWNED_INTERVAL.total_seconds():
                    self._unowned = await queue_statistics.count_unowned(tx)
                    self._counted_at = now
        except Unavailable as error:
            self._statistics = self._unowned = self._webhooks = None
            self._counted_at = -_UNOWNED_INTERVAL.total_seconds()
            log.warning("metrics.unread", error=str(error))

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        yield from self._collect_worker()
        database = GaugeMetricFamily(
            "holdfast_database_up", "Whether the last look at the queues was answered."
        )
        database.add_metric([], float(self._statistics is not None))
        yield database
        if self._statistics is not None:
            yield from self._collect_queues(self._statistics)
        if self._webhooks is not None:
            yield _gauge(
                "holdfast_webhooks_pending",
                "Ends of jobs that a webhook has not taken yet.",
                self._webhooks.pending,
            )
            yield _gauge(
                "holdfast_webhook_oldest_wait_seconds",
                "How long the oldest of them has waited since the end of its job.",
                self._webhooks.oldest_seconds,
            )
        if self._unowned is not None:
            yield _gauge(
                "holdfast_unowned_rows",
                "Rows of v_unowned: work that no worker would take. Always 0, or there is a bug.",
                self._unowned,
            )

    def _collect_worker(self) -> Iterator[Metric]:
        worker, activity = self._worker, self._worker.activity
        slots = GaugeMetricFamily(
            "holdfast_worker_slots",
            "Attempts that this worker carries out at a time.",
            None,
            ["kind"],
        )
        in_use = GaugeMetricFamily(
            "holdfast_worker_slots_in_use", "Attempts that it carries out now.", None, ["kind"]
        )
        lapses = CounterMetricFamily(
            "holdfast_lease_lapses",
            "Leases of dead or late workers whose runs this worker took over.",
            labels=["kind"],
        )
        for kind, executor in worker.executors.items():
            slots.add_metric([kind], executor.slots)
            in_use.add_metric([kind], activity.held_slots[kind].total())
            lapses.add_metric([kind], activity.lapses[kind])
        attempts = CounterMetricFamily(
            "holdfast_webhook_attempts",
            "Attempts of this worker to deliver a webhook, by what became of them.",
            labels=["outcome"],
        )
        for outcome in WEBHOOK_OUTCOMES:
            attempts.add_metric([outcome], activity.webhooks[outcome])
        yield from (slots, in_use, lapses, attempts)
        yield _gauge(
            "holdfast_worker_last_sweep_timestamp_seconds",
            "When this worker last looked through all queues, or began, in seconds since 1970.",
            activity.swept_at,
        )

    def _collect_queues(self, statistics: QueueStatistics) -> Iterator[Metric]:
        queued = GaugeMetricFamily(
            "holdfast_queued_jobs",
            "Queued jobs of all subjects, by kind and by what they wait for.",
            labels=["kind", "waits_for"],
        )
        wait = GaugeMetricFamily(
            "holdfast_queue_oldest_wait_seconds",
            "How long the oldest job has been due and not claimed, without those that are held.",
            labels=["kind"],
        )
        runs = GaugeMetricFamily(
            "holdfast_open_runs",
            "Open runs of all subjects, by kind and state.",
            None,
            ["kind", "state"],
        )
        for kind in self._worker.executors:
            wait.add_metric([kind], statistics.oldest_wait.get(kind, 0.0))
        for family, counts in ((queued, statistics.queued), (runs, statistics.open_runs)):
            for labels, count in self._sum_by_known_kind(counts).items():
                family.add_metric(labels, count)
        holds = GaugeMetricFamily(
            "holdfast_held_subjects", "Subjects whose jobs are held, by reason.", None, ["hold"]
        )
        for hold, subjects in statistics.holds.items():
            holds.add_metric([hold], subjects)
        yield from (queued, wait, runs, holds)
        yield _gauge(
            "holdfast_runs_to_kill", "Runs that must die and are not over.", statistics.runs_to_kill
        )
        yield _gauge(
            "holdfast_money_held_usd",
            "Dollars that are reserved for jobs whose cost is not settled.",
            statistics.held_micro_usd / _MICRO,
        )

    def _sum_by_known_kind(
        self, counts: Mapping[tuple[str, str], int]
    ) -> dict[tuple[str, str], int]:
        """Add up what belongs to kinds without an executor here."""
        sums: dict[tuple[str, str], int] = {}
        for (kind, word), count in counts.items():
            key = (self._metrics.bound_kind(kind), word)
            sums[key] = sums.get(key, 0) + count
        return sums


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value)
