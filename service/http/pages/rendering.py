"""Pages from templates: every value is escaped, and every page has the same strict headers.

A page runs and styles itself by files of ours alone. Nobody may put it into a frame, keep a copy of
it, or learn its address.
"""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.http.pages.static_files import static_url

TEMPLATES_FOLDER: Final = Path(__file__).parents[2] / "web" / "templates"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of a page whose form may lead to another host: Chromium applies `form-action` to redirects."""
SITE_HEADERS: Final = {**PAGE_HEADERS, "content-security-policy": f"{_POLICY}; form-action 'self'"}
"""Of a page whose forms stay here."""


@cache
def template_environment() -> Environment:
    """Return the environment of all templates."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = cast("dict[str, Any]", environment.globals)  # Jinja types its own values alone
    shared.update(static_url=static_url, account=None)
    return environment


def render_template(name: str, /, **context: Any) -> str:
    """Render a template; every value in it is escaped.

    Args:
        name: of a file in the folder of templates.
        context: what it shows; `account` is who has signed in.
    """
    return template_environment().get_template(name).render(context)


def respond_with_template(
    name: str,
    /,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] = MappingProxyType({}),
    **context: Any,
) -> HTMLResponse:
    """Answer with a page whose forms stay on this host."""
    return HTMLResponse(render_template(name, **context), status, {**SITE_HEADERS, **headers})


def render_page(
    title: str,
    content: str,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> HTMLResponse:
    """Return a short page of a flow that may lead to another host.

    Args:
        title: shown as its heading.
        content: HTML, whose values are escaped already.
        status: of the answer.
        headers: besides those of every page.
    """
    page = render_template("message.html", title=title, content=Markup(content))  # noqa: S704  # the caller has escaped it
    return HTMLResponse(page, status, {**PAGE_HEADERS, **headers})


def redirect_to(url: str) -> Response:
    """Send the browser on; it does not send the form there."""
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, PAGE_HEADERS)
