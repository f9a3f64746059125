"""HTTP client of Spaces, for both processes: where a Space is, and what can be called in it.

The URL is made only of the subdomain that the Hub names and of a template that the operator sets.
Nothing that a caller wrote and nothing that the Space says becomes part of it. The caller's token
is sent as `X-HF-Authorization`, which the Hub's own proxy removes before the Space sees the
request; never as `Authorization`, which would reach the code of the Space's author.
"""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Final

import httpx2
from pydantic import ValidationError

from schema.accounts.vault import Secret
from schema.common.http import SUBDOMAIN_PLACEHOLDER, UNCOMPRESSED, read_bounded
from schema.common.process.tls import shared_ssl_context
from schema.common.version import package_version
from schema.hub.gradio_api import GradioApi, GradioModel, InvalidCall
from schema.hub.gradio_config import parse_config

_DNS_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_DESCRIPTION_BYTES: Final = 4 * 1024 * 1024
"""Bytes of what an app says about itself, at most."""
_CONNECT_TIMEOUT_SECONDS: Final = 5.0

_STARTING_STAGES: Final = {
    "SLEEPING": "is asleep",
    "STOPPED": "is asleep",
    "BUILDING": "is being built",
    "APP_STARTING": "is starting",
}
"""Stages that end by themselves once somebody uses the Space."""
_FAILED_STAGES: Final = {
    "NO_APP_FILE": "has no app",
    "CONFIG_ERROR": "is configured wrongly",
    "BUILD_ERROR": "could not be built",
    "RUNTIME_ERROR": "has crashed",
    "PAUSED": "was paused by its owner",
    "DELETING": "is being deleted",
}
"""Stages that only its owner can end."""


class SpaceUnavailable(Exception):
    """The Space cannot be called now; nothing was started there."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        """The status of its response; None if there was none."""
        super().__init__(message)


class SpaceBroken(Exception):
    """The Space cannot be called until its owner has repaired it."""


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
        """What it is busy with before it can be called; None if it can be called."""
        return _STARTING_STAGES.get(self.runtime.stage)

    def expect_callable(self) -> None:
        """Check that it can be called, now or later.

        Raises:
            SpaceBroken: only its owner can change that.
            InvalidCall: it can never be called.
        """
        if (failure := _FAILED_STAGES.get(self.runtime.stage)) is not None:
            raise SpaceBroken(f"{failure}.")
        if self.sdk == "static":
            raise InvalidCall("is a static page, and runs no code.")

    def build_url(self, template: str) -> str:
        """Build its URL.

        Raises:
            InvalidCall: it is not served in the Hub's own domain.
        """
        if self.subdomain is None or not _DNS_LABEL.fullmatch(self.subdomain):
            raise InvalidCall("is not served in a domain of Hugging Face.")
        return template.replace(SUBDOMAIN_PLACEHOLDER, self.subdomain).rstrip("/")


def parse_space(body: bytes) -> Space:
    """Parse the Hub's description of a Space.

    Raises:
        SpaceUnavailable: it cannot be read.
    """
    try:
        return Space.model_validate_json(body)
    except ValidationError:
        raise SpaceUnavailable("the Hub describes the Space in a way that cannot be read") from None


@asynccontextmanager
async def open_space_session(url: str, token: Secret | None) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a session with a Space for one caller; its cookies end with it."""
    headers = {"user-agent": f"holdfast/{package_version()}", **UNCOMPRESSED}
    if token is not None:
        headers["x-hf-authorization"] = f"Bearer {token.reveal()}"
    async with httpx2.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx2.Timeout(30, connect=_CONNECT_TIMEOUT_SECONDS),
        follow_redirects=False,
        verify=shared_ssl_context(),
    ) as session:
        yield session


async def fetch_api(session: httpx2.AsyncClient) -> GradioApi:
    """Fetch what can be called in an app.

    Raises:
        SpaceUnavailable: it does not answer.
        InvalidCall: it is not a Gradio app, or not one that this client can call.
    """
    config = parse_config(await fetch_bytes(session, "/config", max_bytes=_MAX_DESCRIPTION_BYTES))
    description = await fetch_bytes(
        session, f"{config.api_prefix}/info", max_bytes=_MAX_DESCRIPTION_BYTES
    )
    return config.build_api(description)


async def fetch_bytes(session: httpx2.AsyncClient, path: str, *, max_bytes: int) -> bytes:
    """Fetch the body at a path of the Space.

    Raises:
        SpaceUnavailable: it does not answer, or the body is too large.
    """
    with transport_errors_as_unavailable():
        async with session.stream("GET", path) as response:
            expect_status_ok(response.status_code)
            content = await read_bounded(response.aiter_bytes(), max_bytes)
    if len(content) > max_bytes:
        raise SpaceUnavailable(f"it answers with more than {max_bytes:,} bytes", HTTPStatus.OK)
    return content


def expect_status_ok(status: int) -> None:
    """Check that a response is a success.

    Raises:
        SpaceUnavailable: it is not; the text says what the status means.
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
    """Turn a failed connection into `SpaceUnavailable`."""
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise SpaceUnavailable(f"it does not answer: {type(error).__name__}") from None
