"""What may a tool ask for? The application, and who is calling; both come from resolvers.

A parameter that a model cannot fill in is one it cannot get wrong, or lie about.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Final

import anyio
from mcp.server.mcpserver import Context, Resolve

from schema.errors import Denied, Unauthenticated, Unavailable
from schema.wire import Doorbell
from service.ground import Ground


@dataclass(frozen=True, slots=True)
class App:
    """What lives as long as the process does."""

    ground: Ground
    doorbell: Doorbell
    hub_url: str

    async def wake(self, handle: str) -> None:
        """Wake a worker for what has just been committed; the sweep repairs a lost wake."""
        with anyio.CancelScope(shield=True):
            await self.doorbell.ring(handle)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, as the Hub vouches for them."""

    subject_id: str
    name: str
    """Their namespace at the Hub: where their jobs run, and who pays."""
    can_act: bool
    """Whether their token may do more than read."""
    trouble: Unavailable | None = None
    """Why their token could not be kept for their jobs."""


CALLING: Final[ContextVar[Caller | None]] = ContextVar("calling", default=None)
"""Set at the edge for the length of one request."""


async def current_app(ctx: Context[App]) -> App:
    """Resolve the application."""
    return ctx.request_context.lifespan_context


async def current_caller() -> Caller:
    """Resolve the caller from the verified token, never from an argument or a header."""
    caller = CALLING.get()
    if caller is None:
        raise Unauthenticated("This call carries no Hugging Face token.")
    if caller.trouble is not None:
        raise caller.trouble.with_traceback(None)
    return caller


AppDep = Annotated[App, Resolve(current_app)]
CallerDep = Annotated[Caller, Resolve(current_caller)]


async def acting_caller(caller: CallerDep) -> Caller:
    """Resolve a caller whose token may change something."""
    if not caller.can_act:
        raise Denied(
            "Your Hugging Face token is read-only, so it can look at jobs but not launch or change "
            "anything. Give your client a token with the role write, or a fine-grained one with "
            "the permissions job.write and inference.serverless.write, from "
            "https://huggingface.co/settings/tokens."
        )
    return caller


ActorDep = Annotated[Caller, Resolve(acting_caller)]
