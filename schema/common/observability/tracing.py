"""Spans of what a process does, if an operator names a collector; without one, none are made.

    client ── traceparent ──▶ tool call ──▶ job_event ──▶ attempt ──▶ request to the Hub
                              (service)    traceparent    (worker)

A span that is under way is in a context variable, and whoever does a part of it makes a child.
Where there is none, no child is made, so a process without a collector pays nothing, and imports
no package of OpenTelemetry for it (`otel.py` beside this module does).

Names and attributes are those of OpenTelemetry's semantic conventions. No span has a subject, an
argument, a token, or the text of an error.
"""

import re
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Final, Literal, Protocol

import anyio
import anyio.to_thread

from schema.common.errors import Invalid

SpanKind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int | None]
"""An attribute that is None is left out."""

TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
"""The header of W3C Trace Context; its group is the trace id."""
_FLUSH_TIMEOUT: Final = timedelta(seconds=1.5)
"""How long the last spans may take to be sent when a process ends."""


class Span(Protocol):
    """A span that is under way."""

    @property
    def traceparent(self) -> str:
        """Its identity, for whoever carries on elsewhere."""
        ...

    def set_attributes(self, attributes: Attributes) -> None:
        """Add what is known now."""
        ...

    def fail(self, error_type: str) -> None:
        """Mark it as failed.

        Args:
            error_type: from a list that the code knows, never the text of an error.
        """
        ...


class Tracer(Protocol):
    """Makes spans, and sends them when they have ended."""

    def start(
        self, name: str, kind: SpanKind, *, parent: Span | str | None, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """Start a span for the length of a block; what the block raises is its failure.

        Args:
            name: from a list that the code knows.
            kind: the role of this process in it.
            parent: a span, or the traceparent of one elsewhere; None begins a trace.
            attributes: what is known now.
        """
        ...


_CURRENT: Final[ContextVar[tuple[Tracer, Span] | None]] = ContextVar("span", default=None)


@contextmanager
def start_span(
    tracer: Tracer | None,
    name: str,
    kind: SpanKind,
    *,
    parent: Span | str | None,
    attributes: Attributes,
) -> Generator[Span | None]:
    """Make a span the current one for the length of a block; None without a tracer."""
    if tracer is None:
        yield None
        return
    with tracer.start(name, kind, parent=parent, attributes=attributes) as span:
        token = _CURRENT.set((tracer, span))
        try:
            yield span
        finally:
            _CURRENT.reset(token)


@contextmanager
def start_child_span(
    name: str, kind: SpanKind, *, attributes: Attributes
) -> Generator[Span | None]:
    """Make a child of the current span for the length of a block; None if there is no span."""
    current = _CURRENT.get()
    if current is None:
        yield None
        return
    tracer, parent = current
    with start_span(tracer, name, kind, parent=parent, attributes=attributes) as span:
        yield span


def current_traceparent() -> str | None:
    """Return the traceparent of the current span; None if there is none."""
    current = _CURRENT.get()
    return None if current is None else current[1].traceparent


@asynccontextmanager
async def open_tracer(endpoint: str | None, *, process: str) -> AsyncGenerator[Tracer | None]:
    """Open a tracer that sends to a collector; None if none is named.

    Args:
        endpoint: the base URL of a collector that takes OTLP over HTTP.
        process: the name of this kind of process in traces.

    Raises:
        Invalid: the packages of OpenTelemetry are not installed.
    """
    if endpoint is None:
        yield None
        return
    try:
        from schema.common.observability.otel import OtelTracer  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise Invalid(
            f"HOLDFAST_OTLP_ENDPOINT is set, and {error.name} is not installed. Run "
            f"`pip install 'holdfast-mcp[otel]'`, or unset it."
        ) from error
    tracer = OtelTracer(endpoint, process=process)
    try:
        yield tracer
    finally:
        # In a thread that may be left behind: a collector that hangs must not hold up the end.
        with anyio.move_on_after(_FLUSH_TIMEOUT.total_seconds(), shield=True):
            await anyio.to_thread.run_sync(tracer.close, abandon_on_cancel=True)
