"""Metrics that both processes have: transitions of jobs, requests to the Hub, the database's pool.

A composition root makes the metrics of its process, with a registry of their own. Names carry their
unit. A label takes its values from a list that the code knows, and whatever else comes is `other`:
no caller can make a series, and no series names a subject, a handle or a token.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from schema.common.observability.transitions import JobTransition, log_transitions

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
OTHER: Final = "other"
"""The value of a label that none of its known values fits."""
LATENCY_BUCKETS_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """The connections of a pool at one moment."""

    max_size: int
    size: int
    in_use: int
    waiting: int
    """Transactions that wait for a connection."""


@dataclass(frozen=True, slots=True)
class HubRequest:
    """One request to the Hub, after its response has begun or has failed to."""

    route: str
    """Its path with placeholders, from a list that the code knows."""
    status: str
    """The status of the response, or `unreachable`, `broken` or `cancelled`."""
    seconds: float
    """Until the head of the response."""
    limit: str | None = None
    """The rate limit that the response names, if it names one."""
    remaining: int = 0
    reset_seconds: int = 0


class ProcessMetrics:
    """The metrics of one process, and its registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._kinds: frozenset[str] = frozenset()
        self._limits: dict[str, tuple[int, float]] = {}
        self._transitions = Counter(
            "holdfast_job_transitions",
            "Transitions of jobs that this process has committed, by event and kind of job.",
            ("event", "kind"),
            registry=registry,
        )
        self._ends = Counter(
            "holdfast_job_ends",
            "Jobs that this process has ended, by kind, final state and reason.",
            ("kind", "state", "reason"),
            registry=registry,
        )
        self._hub_requests = Counter(
            "holdfast_hub_requests",
            "Requests to the Hub, its router and Spaces, by route and status.",
            ("route", "status"),
            registry=registry,
        )
        self._hub_seconds = Histogram(
            "holdfast_hub_request_duration_seconds",
            "Time until the Hub began to answer, by route.",
            ("route",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self._hub_remaining = Gauge(
            "holdfast_hub_rate_limit_remaining_requests",
            "The fewest requests left of any user's rate limit in its present window.",
            ("limit",),
            registry=registry,
        )

    def add_kinds(self, kinds: Collection[str]) -> None:
        """Give series of their own to these kinds of job."""
        self._kinds |= frozenset(kinds)

    def bound_kind(self, kind: str) -> str:
        """Return the kind if it has series of its own, and `other` if not."""
        return kind if kind in self._kinds else OTHER

    def observe_transitions(self, transitions: Sequence[JobTransition]) -> None:
        """Count and log transitions that have just been committed."""
        log_transitions(transitions)
        for transition in transitions:
            kind = self.bound_kind(transition.kind)
            self._transitions.labels(transition.event, kind).inc()
            if transition.is_end:
                self._ends.labels(kind, transition.state, transition.reason or "none").inc()

    def count_hub_request(self, request: HubRequest) -> None:
        """Count a request to the Hub, and remember what it said of the rate limit."""
        self._hub_requests.labels(request.route, request.status).inc()
        self._hub_seconds.labels(request.route).observe(request.seconds)
        if request.limit is None:
            return
        now = time.monotonic()
        remaining, valid_until = self._limits.get(request.limit, (0, 0.0))
        if valid_until <= now or request.remaining <= remaining:
            self._limits[request.limit] = (request.remaining, now + request.reset_seconds)

    def watch_pool(self, read_usage: Callable[[], PoolUsage]) -> None:
        """Register the gauges of the database's pool, which are read at each scrape."""
        for name, description, attribute in (
            ("max_connections", "The most connections that the pool may have.", "max_size"),
            ("connections", "Open connections of the pool.", "size"),
            ("connections_in_use", "Connections that carry a transaction.", "in_use"),
            ("waiting_transactions", "Transactions that wait for a connection.", "waiting"),
        ):
            gauge = Gauge(f"holdfast_database_pool_{name}", description, registry=self.registry)
            gauge.set_function(partial(_read_usage, read_usage, attribute))

    def render(self) -> bytes:
        """Write all metrics of the registry in the text format of Prometheus."""
        now = time.monotonic()
        for limit, (remaining, valid_until) in self._limits.items():
            self._hub_remaining.labels(limit).set(remaining if valid_until > now else math.nan)
        return generate_latest(self.registry)


def _read_usage(read_usage: Callable[[], PoolUsage], attribute: str) -> float:
    return float(getattr(read_usage(), attribute))
