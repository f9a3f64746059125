"""The id of a request: in each of its log lines, in its answer, and with the job that it makes.

A caller may bring one as `X-Request-Id`, or the `traceparent` of W3C Trace Context, whose trace id
is the id of the request then. What is not of the usual form is not taken over: the id is written
into logs, headers, rows and labels, and none of them is a place for the text of a stranger.
"""

import re
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import structlog

from schema.common.observability.tracing import TRACEPARENT

CURRENT_REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Set by the HTTP middleware for the length of one request."""
CURRENT_TRACEPARENT: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)
"""Set beside it, as the caller sent it in the header."""
_REQUEST_ID: Final = re.compile(r"(?!.*hf_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Short, of letters that need no quoting anywhere, and no token of the Hub."""


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The id of a request, and the trace that it belongs to."""

    request_id: str
    traceparent: str | None = None
    """As the caller sent it."""

    def to_headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        trace = {} if self.traceparent is None else {"traceparent": self.traceparent}
        return {"x-request-id": self.request_id, **trace}

    @contextmanager
    def bind(self) -> Generator[None]:
        """Write the id into every log line of the block."""
        token = CURRENT_REQUEST_ID.set(self.request_id)
        trace_token = CURRENT_TRACEPARENT.set(self.traceparent)
        trace = {} if self.traceparent is None else {"trace_id": self.traceparent.split("-")[1]}
        try:
            with structlog.contextvars.bound_contextvars(request_id=self.request_id, **trace):
                yield
        finally:
            CURRENT_TRACEPARENT.reset(trace_token)
            CURRENT_REQUEST_ID.reset(token)


def identify_request(headers: Mapping[str, str]) -> RequestIdentity:
    """Take over the id that a request brings, or make one."""
    request_id, traceparent = headers.get("x-request-id", ""), headers.get("traceparent", "")
    trace = TRACEPARENT.fullmatch(traceparent)
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = trace[1] if trace else secrets.token_hex(16)
    return RequestIdentity(request_id, traceparent if trace else None)
