"""The tracer of OpenTelemetry. Only a process that has a collector imports this module.

The SDK reads the rest from its own variables, such as OTEL_EXPORTER_OTLP_HEADERS,
OTEL_TRACES_SAMPLER and OTEL_RESOURCE_ATTRIBUTES. The provider is ours and not the global one, so
that no library adds spans of its own: those of the MCP SDK have the texts of errors.
"""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schema.common.observability import tracing
from schema.common.observability.causes import REPORT_INTERVAL
from schema.common.observability.tracing import Attributes
from schema.common.version import package_version

_TRACES_PATH: Final = "/v1/traces"
_KINDS: Final[dict[tracing.SpanKind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_LOGGERS: Final = (
    "opentelemetry.exporter.http.transport",
    "opentelemetry.exporter.otlp.common",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)


class OtelSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self.has_failed = False

    @property
    def traceparent(self) -> str:
        """Its identity, for whoever carries on elsewhere."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set_attributes(self, attributes: Attributes) -> None:
        """Add what is known now."""
        self.span.set_attributes(_without_none(attributes))

    def fail(self, error_type: str) -> None:
        """Mark it as failed."""
        self.has_failed = True
        self.span.set_attribute("error.type", error_type)
        self.span.set_status(StatusCode.ERROR)


class OtelTracer:
    """Makes spans, and sends them in batches from a thread of its own."""

    def __init__(self, endpoint: str, *, process: str) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_OncePerMinute())
        identity = {"service.name": process, "service.version": package_version()}
        self._provider = TracerProvider(
            # What the operator sets counts for more.
            resource=Resource(identity).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}{_TRACES_PATH}")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("holdfast", package_version())

    @contextmanager
    def start(
        self,
        name: str,
        kind: tracing.SpanKind,
        *,
        parent: tracing.Span | str | None,
        attributes: Attributes,
    ) -> Generator[tracing.Span]:
        """Start a span for the length of a block; what the block raises is its failure."""
        span = OtelSpan(
            self._tracer.start_span(
                name,
                context=_context_of(parent),
                kind=_KINDS[kind],
                attributes=_without_none(attributes),
            )
        )
        try:
            yield span
        except BaseException as error:
            if not span.has_failed:
                span.fail(type(error).__name__)
            raise
        finally:
            span.span.end()

    def close(self) -> None:
        """Send what is left. Blocks until the collector has it, or does not answer in time."""
        self._provider.shutdown()


class _OncePerMinute(logging.Filter):
    """Lets each text through once a minute: a collector that is away is one line, not one a try."""

    def __init__(self) -> None:
        super().__init__()
        self._written_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written; the texts are templates of the SDK, so they are few."""
        text, now = str(record.msg), time.monotonic()
        written_at = self._written_at.get(text)
        if written_at is not None and now - written_at < REPORT_INTERVAL.total_seconds():
            return False
        self._written_at[text] = now
        return True


def _context_of(parent: tracing.Span | str | None) -> Context:
    if isinstance(parent, OtelSpan):
        return trace.set_span_in_context(parent.span, Context())
    carrier = {"traceparent": parent} if isinstance(parent, str) else {}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _without_none(attributes: Attributes) -> dict[str, str | int]:
    return {name: value for name, value in attributes.items() if value is not None}
