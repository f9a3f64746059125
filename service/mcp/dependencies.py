"""Resolvers of what the service gives to a tool: the application, the caller, and progress.

A model cannot fill in such a parameter, so it can neither get it wrong nor lie about it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context, Resolve

from schema.common.errors import Unauthenticated
from service.auth.caller import Caller
from service.runtime.context import CURRENT_CALLER, App


@dataclass(frozen=True, slots=True)
class CallProgress:
    """Reports the progress of a call to the client, if the client asked for that."""

    _context: Context[App]

    async def report(self, elapsed: timedelta, timeout: timedelta, message: str) -> None:
        """Report the time that a call has taken, the time it may take, and how things stand."""
        await self._context.report_progress(
            elapsed.total_seconds(), timeout.total_seconds(), message
        )


async def current_app(ctx: Context[App]) -> App:
    """Resolve the application."""
    return ctx.request_context.lifespan_context


async def current_progress(ctx: Context[App]) -> CallProgress:
    """Resolve the progress of this call."""
    return CallProgress(ctx)


async def current_caller() -> Caller:
    """Resolve the caller from the verified token, never from an argument or a header."""
    caller = CURRENT_CALLER.get()
    if caller is None:
        raise Unauthenticated("This call carries no Hugging Face token.")
    if caller.storage_error is not None:
        raise caller.storage_error.with_traceback(None)
    return caller


RESOLVED_VALUE: Final = AcceptedElicitation[Any]
"""The model in which the SDK (mcp 2.3.0) holds each value that a resolver returns.

It is named here so that it lives on: pydantic keeps generic models weakly, and would build it again
in the call after each garbage collection.
"""
AppDep = Annotated[App, Resolve(current_app)]
CallerDep = Annotated[Caller, Resolve(current_caller)]
ProgressDep = Annotated[CallProgress, Resolve(current_progress)]
