"""What the suite is run against: our service, and our edge around the suite's own tools.

The suite cannot send a token, so both are given one on the way in, and nothing else is changed.
"""

from collections.abc import Generator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.settings import Settings
from service.app import assemble, create_app
from tests.conformance.content import add_resources, prompts
from tests.conformance.tasks import MadeTasks, task_tools
from tests.conformance.tools import tools
from tests.service.stand_in import ADAS, serving


class Signed:
    """An application whose every caller has signed in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = (b"authorization", f"Bearer {ADAS}".encode())
            scope = {**scope, "headers": [*scope["headers"], token]}
        await self._app(scope, receive, send)


@contextmanager
def our_service(settings: Settings) -> Generator[str]:
    """Serve what we serve; yield where MCP is spoken."""
    with _served(create_app(settings)) as url:
        yield url


@contextmanager
def furnished(settings: Settings) -> Generator[str]:
    """Serve what the suite calls, with everything around it ours; yield where MCP is spoken."""
    tasks = MadeTasks()
    called = [*tools(), *task_tools(tasks)]
    with _served(assemble(settings, called, prompts(), add_resources, source=tasks)) as url:
        yield url


@contextmanager
def _served(app: Starlette) -> Generator[str]:
    with serving(Signed(app)) as url:
        yield f"{url}/mcp"
