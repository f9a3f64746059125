"""Where is a Space, and how is it asked what it can do? The one way in, for both processes.

The address is made of the subdomain that the Hub names and of a form that the operator sets, and of
nothing else: not of what a caller wrote, nor of what the Space says of itself. The caller's token
goes there as `X-HF-Authorization`, which the Hub's own proxy takes away before the Space sees the
request; never as `Authorization`, which would reach the code of whoever made the Space.
"""

import re
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from http import HTTPStatus
from typing import Final

import httpx2
from pydantic import ValidationError

from schema.accounts.vault import Secret
from schema.common.http import SUBDOMAIN_PLACEHOLDER, UNCOMPRESSED, read_bounded
from schema.common.version import package_version
from schema.hub.gradio_api import GradioApi, GradioModel, InvalidCall
from schema.hub.gradio_config import parse_config

_DNS_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_DESCRIPTION_BYTES: Final = 4 * 1024 * 1024
"""Bytes that an app may take to describe itself."""
_CONNECT_TIMEOUT_SECONDS: Final = 5.0

_STARTING_STAGES: Final = {
    "SLEEPING": "is asleep",
    "STOPPED": "is asleep",
    "BUILDING": "is being built",
    "APP_STARTING": "is starting",
}
"""Stages that end by themselves, once somebody asks for the Space."""
_FAILED_STAGES: Final = {
    "NO_APP_FILE": "has no app",
    "CONFIG_ERROR": "is configured wrongly",
    "BUILD_ERROR": "could not be built",
    "RUNTIME_ERROR": "has crashed",
    "PAUSED": "was paused by its owner",
    "DELETING": "is being deleted",
}
"""Stages that only its owner ends."""


class SpaceUnavailable(Exception):
    """The Space did not answer as one that can be called; nothing was begun there."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        """What it answered with; none if it did not."""
        super().__init__(message)


class SpaceBroken(Exception):
    """The Space cannot be called until its owner has done something about it."""


class _Runtime(GradioModel):
    stage: str = "RUNNING"


class Space(GradioModel):
    """A Space, as the Hub describes it."""

    id: str
    subdomain: str | None = None
    sdk: str | None = None
    private: bool = False
    runtime: _Runtime = _Runtime()

    @property
    def pending_stage(self) -> str | None:
        """What it does before it can be called; none if it can be."""
        return _STARTING_STAGES.get(self.runtime.stage)

    def expect_callable(self) -> None:
        """Check that it can be called, now or later.

        Raises:
            Broken: only its owner can change that.
            Mismatch: it never can be.
        """
        if (broken := _FAILED_STAGES.get(self.runtime.stage)) is not None:
            raise SpaceBroken(f"{broken}.")
        if self.sdk == "static":
            raise InvalidCall("is a page, and runs nothing.")

    def build_url(self, template: str) -> str:
        """Make its address.

        Raises:
            Mismatch: it is not at the Hub's own domain.
        """
        if self.subdomain is None or not _DNS_LABEL.fullmatch(self.subdomain):
            raise InvalidCall("is not served at an address of Hugging Face's own.")
        return template.replace(SUBDOMAIN_PLACEHOLDER, self.subdomain).rstrip("/")


def parse_space(body: bytes) -> Space:
    """Read the Hub's description of a Space.

    Raises:
        Shut: it cannot be read.
    """
    try:
        return Space.model_validate_json(body)
    except ValidationError:
        raise SpaceUnavailable("the Hub describes the Space in a way that cannot be read") from None


@asynccontextmanager
async def open_space_session(url: str, token: Secret | None) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a way to a Space for one caller; cookies are kept no longer."""
    headers = {"user-agent": f"holdfast/{package_version()}", **UNCOMPRESSED}
    if token is not None:
        headers["x-hf-authorization"] = f"Bearer {token.reveal()}"
    async with httpx2.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx2.Timeout(30, connect=_CONNECT_TIMEOUT_SECONDS),
        follow_redirects=False,
        verify=_ssl_context(),
    ) as session:
        yield session


async def fetch_api(session: httpx2.AsyncClient) -> GradioApi:
    """Ask an app what can be called in it.

    Raises:
        Shut: it does not answer.
        Mismatch: it is not a Gradio app that we know.
    """
    config = parse_config(await fetch_bytes(session, "/config", max_bytes=_MAX_DESCRIPTION_BYTES))
    info = await fetch_bytes(session, f"{config.api_prefix}/info", max_bytes=_MAX_DESCRIPTION_BYTES)
    return config.build_api(info)


async def fetch_bytes(session: httpx2.AsyncClient, path: str, *, max_bytes: int) -> bytes:
    """Read what is at a path of the Space, if it is not too large.

    Raises:
        Shut: it does not answer, or with too much.
    """
    with transport_errors_as_unavailable():
        async with session.stream("GET", path) as response:
            expect_status_ok(response.status_code)
            content = await read_bounded(response.aiter_bytes(), max_bytes)
    if len(content) > max_bytes:
        raise SpaceUnavailable(f"it answers with more than {max_bytes:,} bytes", HTTPStatus.OK)
    return content


def expect_status_ok(status: int) -> None:
    """Refuse an answer that is none.

    Raises:
        Shut: with what the status means.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SpaceUnavailable(f"it is not up: it answered {status}", status)
    if status >= HTTPStatus.BAD_REQUEST:
        raise SpaceUnavailable(f"it refused: it answered {status}", status)
    if status != HTTPStatus.OK:
        # A redirect is not followed: the token is for this host.
        raise SpaceUnavailable(f"it sends elsewhere: it answered {status}", status)


@contextmanager
def transport_errors_as_unavailable() -> Generator[None]:
    """Say of a connection that failed that the Space did not answer."""
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise SpaceUnavailable(f"it does not answer: {type(error).__name__}") from None


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()
