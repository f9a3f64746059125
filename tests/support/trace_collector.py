"""A collector of traces: it takes OTLP over HTTP, as any real one does, and keeps the spans."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_KINDS: Final = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_ERROR: Final = 2


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as it arrived."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it has begun its trace."""
    is_error: bool
    attributes: dict[str, str | int]


@dataclass
class TraceCollector:
    """The spans that have arrived."""

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """What was sent, byte by byte."""

    def find(self, **facts: Any) -> list[CollectedSpan]:
        """Return the spans of which all these fields hold."""
        return [
            span
            for span in self.spans
            if all(getattr(span, name) == value for name, value in facts.items())
        ]

    def take(self, body: bytes) -> None:
        """Read one request of an exporter."""
        request = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for resource_spans in request.resource_spans:
            service = _read_attributes(resource_spans.resource.attributes)["service.name"]
            for scope_spans in resource_spans.scope_spans:
                self.spans += [
                    CollectedSpan(
                        str(service),
                        span.name,
                        _KINDS[span.kind],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.status.code == _ERROR,
                        _read_attributes(span.attributes),
                    )
                    for span in scope_spans.spans
                ]


@contextmanager
def run_trace_collector() -> Generator[TraceCollector]:
    """Run a collector for the length of a block."""
    collector = TraceCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that the library calls
            body = self.rfile.read(int(self.headers["content-length"]))
            is_known = self.path == "/v1/traces"
            if is_known:
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if is_known else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read_attributes(pairs: Any) -> dict[str, str | int]:
    values = {pair.key: pair.value for pair in pairs}
    return {
        key: value.string_value if value.HasField("string_value") else value.int_value
        for key, value in values.items()
    }
