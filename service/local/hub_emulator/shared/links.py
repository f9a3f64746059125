"""Links that give a file without a token, for a limited time; as signed URLs do on the Hub."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.shared.clock import read_unix_clock

LINK_LIFETIME_SECONDS: Final = 3600
_DOWNLOAD_HOST: Final = "localhost"
"""The same machine under another name. On the Hub too, a download has another host than the API:
no client shows it a token, and some clients do not follow a redirect to it."""


class _Link(NamedTuple):
    target: str
    expires_at: float


class LinkStore:
    """The links of one Hub, by their random names; buckets and repositories share it."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def create(self, target: str) -> str:
        """Create a link to `target`, a name that only its creator has to understand."""
        now = read_unix_clock()
        self._links = {name: link for name, link in self._links.items() if link.expires_at > now}
        name = secrets.token_urlsafe(24)
        self._links[name] = _Link(target, now + LINK_LIFETIME_SECONDS)
        return name

    def resolve(self, name: str) -> str:
        """Return the target of a link.

        Raises:
            HubApiError: there is no such link, or it has expired.
        """
        link = self._links.get(name)
        if link is None or link.expires_at < read_unix_clock():
            raise HubApiError(HTTPStatus.FORBIDDEN, "The link has expired")
        return link.target


def redirect_to_link(request: Request, path: str, headers: Mapping[str, str]) -> Response:
    """Redirect a client to a link at `path`, on the host of downloads."""
    base_url = request.base_url.replace(hostname=_DOWNLOAD_HOST)
    return RedirectResponse(f"{base_url}{path}", HTTPStatus.FOUND, headers)
