"""The outermost middleware of the MCP server: measures each call of a tool, and logs one line.

The line names the tool, the handle that the call is about, the outcome, and how long it took; who
called, with which client, and the id of the request are bound by the HTTP middleware.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import structlog
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from schema.common.observability.tracing import TRACEPARENT, Span, start_span
from service.auth.client_info import CURRENT_CLIENT
from service.runtime.call_metrics import BUG, CANCELLED, OK, PROTOCOL_ERROR, ServiceMetrics
from service.runtime.context import App
from service.runtime.request_ids import CURRENT_REQUEST_ID, CURRENT_TRACEPARENT

ERROR_META_KEY: Final = "holdfast/error"
"""Where a refusal has its code, for programs."""
_REQUEST_META_KEY: Final = "holdfast/request_id"
_HANDLE: Final = re.compile(r"(job|ws|sched)_[0-9a-z]{26}")

log = structlog.stdlib.get_logger()


def observe_calls(metrics: ServiceMetrics, get_app: Callable[[], App]) -> Any:
    """Build the middleware."""

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        tool = metrics.bound_tool(str((ctx.params or {}).get("name")))
        with start_span(
            get_app().tracer,
            f"{ctx.method} {tool}",
            "server",
            parent=_find_parent(ctx.meta),
            attributes={
                "mcp.method.name": ctx.method,
                "mcp.protocol.version": ctx.protocol_version,
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool,
                "holdfast.request_id": CURRENT_REQUEST_ID.get(),
            },
        ) as span:
            return await call(ctx, call_next, span)

    async def call(
        ctx: ServerRequestContext[Any, Any], call_next: CallNext, span: Span | None
    ) -> HandlerResult:
        started, outcome, result = time.perf_counter(), BUG, None
        try:
            result = await call_next(ctx)
            outcome = _read_outcome(result)
        except MCPError as error:
            outcome = _read_code(error.data) or PROTOCOL_ERROR
            raise
        except anyio.get_cancelled_exc_class():
            outcome = CANCELLED
            raise
        finally:
            seconds = time.perf_counter() - started
            params = ctx.params or {}
            tool, client = str(params.get("name")), CURRENT_CLIENT.get()
            metrics.count_call(tool, outcome, client, ctx.protocol_version, seconds)
            handle = _find_handle(result, params.get("arguments"))
            if span is not None:
                span.set_attributes({"holdfast.handle": handle, "holdfast.outcome": outcome})
                if outcome != OK:
                    span.fail(outcome)
            log.info(
                "tool.called",
                tool=metrics.bound_tool(tool),
                handle=handle,
                outcome=outcome,
                milliseconds=round(seconds * 1000, 1),
                client=client,
            )
        return _add_request_id(result)

    return middleware


def _find_parent(meta: Any) -> str | None:
    """Return the traceparent of a call: of its message, or else of the HTTP request around it."""
    match meta:
        case {"traceparent": str(traceparent)} if TRACEPARENT.fullmatch(traceparent):
            return traceparent
        case _:
            return CURRENT_TRACEPARENT.get()


def _add_request_id(result: HandlerResult) -> HandlerResult:
    """Name the request in a refusal, so that whoever reports it names the line in the log."""
    if not isinstance(result, dict) or not result.get("isError"):
        return result
    meta: dict[str, Any] = result.get("_meta") or {}
    return {**result, "_meta": meta | {_REQUEST_META_KEY: CURRENT_REQUEST_ID.get()}}


def _read_outcome(result: HandlerResult) -> str:
    match result:
        case {"isError": True, "_meta": error}:
            return _read_code(error) or BUG
        case {"isError": True}:
            return BUG
        case _:
            return OK


def _read_code(error: object) -> str | None:
    """Read the code of a refusal, from the object that has our key."""
    match error:
        case {"holdfast/error": {"code": str(code)}}:
            return code
        case _:
            return None


def _find_handle(result: HandlerResult, arguments: object) -> str | None:
    """Find the handle that a call made, or was about; several are not written."""
    content = result.get("structuredContent") if isinstance(result, dict) else None
    for source in (content, result, arguments):
        match source:
            case (
                {"job_id": str(handle)}
                | {"schedule_id": str(handle)}
                | {"workspace_id": str(handle)}
                | {"taskId": str(handle)}
            ) if _HANDLE.fullmatch(handle):
                return handle
            case _:
                pass
    return None
