"""The pages that anybody may open, served without a database: they read none."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, Final

import httpx2
from starlette.applications import Starlette

from service.app import build_all_tools
from service.http.pages.static_files import STATIC_ROUTE
from service.mcp.tool import McpTool
from service.web.errors import EXCEPTION_HANDLERS
from service.web.home import HomePages, Site

PUBLIC_URL: Final = "https://jobs.example"
HTML: Final = {"accept": "text/html,application/xhtml+xml"}


@cache
def all_tools() -> list[McpTool]:
    """Build the tools once."""
    return build_all_tools(lambda _: timedelta(days=30))


def build_site(**changes: Any) -> Starlette:
    """Build an application of the public pages."""
    values: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "tools": all_tools(),
        "external_issuer": None,
        "can_connect": False,
    }
    site = Site(**values | changes)
    return Starlette(
        routes=[STATIC_ROUTE, *HomePages(site, lambda _: None).routes],
        exception_handlers=EXCEPTION_HANDLERS,
    )


@contextmanager
def open_site(**changes: Any) -> Generator[httpx2.AsyncClient]:
    """Yield a client of it, which asks for pages as a browser does."""
    transport = httpx2.ASGITransport(build_site(**changes))
    yield httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL, headers=HTML)
