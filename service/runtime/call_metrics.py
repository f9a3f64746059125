"""Metrics of the service: calls of tools, and answers of the endpoint."""

from collections.abc import Iterable, Iterator
from typing import Final

from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from prometheus_client import Counter, Histogram

from schema.common.errors import HoldfastError
from schema.common.observability.metrics import LATENCY_BUCKETS_SECONDS, OTHER, ProcessMetrics

OK: Final = "ok"
BUG: Final = "Internal"
"""An error that is not ours: a bug."""
CANCELLED: Final = "Cancelled"
"""The client left, or the process stopped."""
PROTOCOL_ERROR: Final = "Protocol"
"""Refused as the protocol says, before a tool ran."""
_CLIENTS: Final = (
    *("claude", "chatgpt", "openai", "codex", "cursor", "gemini", "inspector"),
    *("vscode", "visual studio code", "python", "typescript", "node", "go-http"),
)
"""What the name of a known client program contains; the first that fits is its label."""


class ServiceMetrics(ProcessMetrics):
    """The metrics of a service process."""

    def __init__(self, *, tools: Iterable[str]) -> None:
        """Register the metrics; each of the tools has series of its own."""
        super().__init__()
        self._tools = frozenset(tools)
        self._outcomes = frozenset({OK, BUG, CANCELLED, PROTOCOL_ERROR, *_list_codes()})
        self._calls = Counter(
            "holdfast_tool_calls",
            "Calls of tools, by tool, outcome (ok, or the code of the error), client and protocol.",
            ("tool", "outcome", "client", "protocol"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "holdfast_tool_call_duration_seconds",
            "How long calls of a tool took; wait_for_jobs waits because it is asked to.",
            ("tool",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "holdfast_http_responses",
            "Answers of /mcp, by HTTP status.",
            ("status",),
            registry=self.registry,
        )

    def bound_tool(self, tool: str) -> str:
        """Return the name of a tool, and `other` for a name that no tool has."""
        return tool if tool in self._tools else OTHER

    def count_call(
        self, tool: str, outcome: str, client: str | None, protocol: str | None, seconds: float
    ) -> None:
        """Count a call of a tool that is over; names that are not known become `other`."""
        tool = self.bound_tool(tool)
        self._calls.labels(
            tool,
            outcome if outcome in self._outcomes else OTHER,
            _bound_client(client),
            protocol if protocol in KNOWN_PROTOCOL_VERSIONS else OTHER,
        ).inc()
        self._call_seconds.labels(tool).observe(seconds)

    def count_answer(self, status: int) -> None:
        """Count an answer of the endpoint; its status is one of ours."""
        self._answers.labels(str(status)).inc()


def _bound_client(client: str | None) -> str:
    name = (client or "").lower()
    return next((known for known in _CLIENTS if known in name), OTHER)


def _list_codes(error: type[HoldfastError] = HoldfastError) -> Iterator[str]:
    """List the codes of all expected errors: the names of their classes."""
    yield error.__name__
    for subclass in error.__subclasses__():
        yield from _list_codes(subclass)
