"""The outermost middleware of the MCP server: measures each call of a tool, and logs one line.

The line names the tool, the handle that the call is about, the outcome, and how long it took; who
called, with which client, and the id of the request are bound by the HTTP middleware.
"""

import re
import time
from typing import Any, Final

import anyio
import structlog
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from service.auth.client_info import CURRENT_CLIENT
from service.runtime.call_metrics import BUG, CANCELLED, OK, PROTOCOL_ERROR, ServiceMetrics
from service.runtime.request_ids import CURRENT_REQUEST_ID

ERROR_META_KEY: Final = "holdfast/error"
"""Where a refusal has its code, for programs."""
_REQUEST_META_KEY: Final = "holdfast/request_id"
_HANDLE: Final = re.compile(r"(job|ws|sched)_[0-9a-z]{26}")

log = structlog.stdlib.get_logger()


def observe_calls(metrics: ServiceMetrics) -> Any:
    """Build the middleware."""

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
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
            log.info(
                "tool.called",
                tool=metrics.bound_tool(tool),
                handle=_find_handle(result, params.get("arguments")),
                outcome=outcome,
                milliseconds=round(seconds * 1000, 1),
                client=client,
            )
        return _add_request_id(result)

    return middleware


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
