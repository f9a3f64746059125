"""The servers under test: our service, and our middleware around the suite's own tools.

The suite cannot send a token, so both are given one on the way in, and nothing else is changed.
"""

from collections.abc import Generator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from schema.settings import Settings
from service.app import assemble_app, create_app
from tests.conformance.plain_tools import make_tools
from tests.conformance.resources_and_prompts import add_resources, make_prompts
from tests.conformance.task_tools import SuiteTasks, make_task_tools
from tests.support.http_server import serve_app
from tests.support.subjects import ADA_TOKEN


class AuthenticatedApp:
    """An application whose every caller has signed in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = (b"authorization", f"Bearer {ADA_TOKEN}".encode())
            scope = {**scope, "headers": [*scope["headers"], token]}
        await self._app(scope, receive, send)


@contextmanager
def run_service(settings: Settings) -> Generator[str]:
    """Serve what we serve; yield where MCP is spoken."""
    with _serve_mcp(create_app(settings)) as url:
        yield url


@contextmanager
def run_service_with_suite_tools(settings: Settings) -> Generator[str]:
    """Serve what the suite calls, with everything around it ours; yield where MCP is spoken."""
    tasks = SuiteTasks()
    called = [*make_tools(), *make_task_tools(tasks)]
    with _serve_mcp(
        assemble_app(settings, called, make_prompts(), add_resources, task_source=tasks)
    ) as url:
        yield url


@contextmanager
def _serve_mcp(app: Starlette) -> Generator[str]:
    with serve_app(AuthenticatedApp(app)) as url:
        yield f"{url}/mcp"
