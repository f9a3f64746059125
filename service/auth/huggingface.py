"""What does the Hub say about a token? One question, with deadlines, and no answer is not a yes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

import anyio
import httpx2
import structlog
from huggingface_hub import get_async_session
from huggingface_hub.utils._http import parse_ratelimit_headers
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from schema.errors import Unauthenticated, Unavailable
from schema.vault import Secret
from schema.wire import release

_CONNECT: Final = 3.0
_TOTAL: Final = 10.0
_PAUSE: Final = timedelta(seconds=5)
_LONGEST_PAUSE: Final = timedelta(minutes=5)
"""The Hub's rate limits are counted in windows of this length."""

log = structlog.stdlib.get_logger()


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _AccessToken(_Answer):
    role: str | None = None


class _Auth(_Answer):
    expires_at: datetime | None = None
    access_token: _AccessToken = _AccessToken()


class _Principal(_Answer):
    type: str


class _User(_Principal):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    name: str = Field(min_length=1)
    auth: _Auth = _Auth()


@dataclass(frozen=True, slots=True)
class Verified:
    """A person the Hub vouches for."""

    subject_id: str
    """Never changes, as the name can."""
    name: str
    can_act: bool
    """False for a token that may only read."""
    expires_at: datetime | None


class HuggingFace:
    """The Hub, as the one who knows its tokens."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str) -> None:
        self._session = session
        self._url = f"{hub_url}/api/whoami-v2"

    async def whoami(self, token: Secret) -> Verified:
        """Ask whose token this is.

        Raises:
            Unauthenticated: the Hub does not take it, or it is not a person's.
            Unavailable: the Hub did not say.
        """
        response = await self._ask(token)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Unauthenticated(
                "Hugging Face does not accept this token: it is wrong, expired or revoked. "
                "Sign in again, or make a new one at https://huggingface.co/settings/tokens."
            )
        if response.status_code != HTTPStatus.OK:
            log.warning("whoami.refused", status=response.status_code)
            raise Unavailable("Hugging Face", retry_after=_retry_after(response))
        try:
            return _read(response.content)
        except ValidationError as error:
            log.exception("whoami.misread")
            raise Unavailable("Hugging Face", retry_after=_PAUSE) from error

    async def _ask(self, token: Secret) -> httpx2.Response:
        # Our own two headers: `build_hf_headers` may go to the network, and blocks while it does.
        headers = {
            "authorization": f"Bearer {token.reveal()}",
            "user-agent": f"holdfast/{release()}",
        }
        try:
            with anyio.fail_after(_TOTAL):
                return await self._session.get(
                    self._url,
                    headers=headers,
                    timeout=httpx2.Timeout(_TOTAL, connect=_CONNECT),
                    follow_redirects=False,
                )
        except (httpx2.TransportError, TimeoutError) as error:
            log.warning("whoami.unanswered", error=type(error).__name__)
            raise Unavailable("Hugging Face", retry_after=_PAUSE) from error


@asynccontextmanager
async def huggingface(hub_url: str) -> AsyncGenerator[HuggingFace]:
    """Open the way to the Hub."""
    async with get_async_session() as session:
        yield HuggingFace(session, hub_url)


def _read(answer: bytes) -> Verified:
    if (kind := _Principal.model_validate_json(answer).type) != "user":
        raise Unauthenticated(
            f"Holdfast acts for people, and this token belongs to another kind of account ({kind})."
        )
    user = _User.model_validate_json(answer)
    return Verified(
        subject_id=user.id,
        name=user.name,
        can_act=user.auth.access_token.role != "read",
        expires_at=user.auth.expires_at,
    )


def _retry_after(response: httpx2.Response) -> timedelta:
    if (asked := response.headers.get("retry-after", "")).isdigit():
        return min(timedelta(seconds=int(asked)), _LONGEST_PAUSE)
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return min(timedelta(seconds=limits.reset_in_seconds), _LONGEST_PAUSE)
    return _PAUSE
