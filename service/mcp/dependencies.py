"""service.mcp.dependencies."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from mcp.server.mcpserver import Context, Resolve

from schema.common.errors import Unauthenticated
from service.auth.caller import Caller
from service.runtime.context import CURRENT_CALLER, App


@dataclass(frozen=True, slots=True)
class CallProgress:
    """Tells the client how a call goes, if it asked to be told."""

    _context: Context[App]

    async def report(self, elapsed: timedelta, timeout: timedelta, message: str) -> None:
        """Say how long a call has taken, of how long it may, and how it goes."""
        seconds, most = elapsed.total_seconds(), timeout.total_seconds()
        await self._context.report_progress(seconds, most, message)


async def current_app(ctx: Context[App]) -> App:
    """Resolve the application."""
    return ctx.request_context.lifespan_context


async def current_progress(ctx: Context[App]) -> CallProgress:
    """Resolve a way to tell the client how the call goes."""
    return CallProgress(ctx)


async def current_caller() -> Caller:
    """Resolve the caller from the verified token, never from an argument or a header."""
    caller = CURRENT_CALLER.get()
    if caller is None:
        raise Unauthenticated("This call carries no Hugging Face token.")
    if caller.storage_error is not None:
        raise caller.storage_error.with_traceback(None)
    return caller


AppDep = Annotated[App, Resolve(current_app)]


CallerDep = Annotated[Caller, Resolve(current_caller)]


ProgressDep = Annotated[CallProgress, Resolve(current_progress)]
