"""What does the Hub say about a token? One question, with deadlines, and no answer is not a yes."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, assert_never
from urllib.parse import quote

import anyio
import httpx2
import structlog
from huggingface_hub import JobHardware, get_async_session
from huggingface_hub.utils._http import parse_ratelimit_headers
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from schema.accounts.vault import Secret
from schema.common import http
from schema.common.errors import Unauthenticated, Unavailable
from schema.common.http import package_version
from service.auth.caller import ALL_SCOPES, Caller, LaunchDenied, Scope, TokenKind

FLAVORS: Final = tuple(flavor.value for flavor in JobHardware)
"""The hardware that the Hub's own library knows of; only the Hub knows whether there is more."""

_CONNECT_TIMEOUT_SECONDS: Final = 3.0
_TIMEOUT_SECONDS: Final = 10.0
_RETRY_AFTER: Final = timedelta(seconds=5)
_MAX_RETRY_AFTER: Final = timedelta(minutes=5)
"""The Hub's rate limits are counted in windows of this length."""

_ACTING_ROLES: Final = frozenset({"admin", "write", "contributor"})
"""Roles in an organisation that may start something in its name."""
_NOT_VISIBLE_STATUSES: Final = frozenset(
    {
        *(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
        # It has another name now, which only its owner may tell.
        *(HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.TEMPORARY_REDIRECT),
    }
)
_PERMISSIONS: Final = {Scope.JOBS: "job.write", Scope.INFERENCE: "inference.serverless.write"}

log = structlog.stdlib.get_logger()


class _HubModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Entity(_HubModel):
    type: str
    name: str


class _ScopedPermissions(_HubModel):
    entity: _Entity
    permissions: frozenset[str] = frozenset()


class _FineGrained(_HubModel):
    scoped: list[_ScopedPermissions] = []


class _AccessToken(_HubModel):
    role: str | None = None
    fine_grained: _FineGrained = _FineGrained()


class _Auth(_HubModel):
    type: str | None = None
    expires_at: datetime | None = None
    access_token: _AccessToken = _AccessToken()


class _Organisation(_HubModel):
    name: str
    role_in_org: str | None = None


class _Principal(_HubModel):
    type: str


class _User(_Principal):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    name: str = Field(min_length=1)
    orgs: list[_Organisation] = []
    auth: _Auth = _Auth()


_HARDWARE_ENTRIES: Final = TypeAdapter(list[dict[str, Any]])


class _ErrorBody(BaseModel):
    error: str


class _Claims(BaseModel):
    scope: str | list[str] | None = None


class HubAccountClient:
    """The Hub, as the one who knows its tokens."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str) -> None:
        self._session = session
        self._hub_url = hub_url

    async def whoami(self, token: Secret) -> Caller:
        """Ask whose token this is.

        Raises:
            Unauthenticated: the Hub does not take it, or it is not a person's.
            Unavailable: the Hub did not say.
        """
        response = await self._send("GET", "/api/whoami-v2", token)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Unauthenticated(
                "Hugging Face does not accept this token: it is wrong, expired or revoked. "
                "Sign in again, or make a new one at https://huggingface.co/settings/tokens."
            )
        if response.status_code != HTTPStatus.OK:
            log.warning("whoami.refused", status=response.status_code)
            raise Unavailable("Hugging Face", retry_after=_read_retry_after(response))
        try:
            return _parse_caller(response.content, token)
        except ValidationError as error:
            log.exception("whoami.misread")
            raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from error

    async def check_launch(self, caller: Caller, namespace: str) -> None:
        """Ask whether a token may launch jobs in a namespace, without launching any.

        Raises:
            LaunchDenied: it may not.
            Unauthenticated: the Hub does not take it any more.
            Unavailable: the Hub did not say.
        """
        path = f"/api/jobs/{quote(namespace, safe='')}/auth-check/write"
        response = await self._send("POST", path, caller.token)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise Unauthenticated("Hugging Face no longer accepts this token. Sign in again.")
        if response.status_code == HTTPStatus.FORBIDDEN:
            raise LaunchDenied(namespace, _read_error_message(response))
        if response.status_code != HTTPStatus.OK:
            raise Unavailable("Hugging Face", retry_after=_read_retry_after(response))

    async def fetch_hardware(self) -> list[dict[str, Any]]:
        """Ask what there is to run jobs on, and what it costs; it is nobody's secret.

        Raises:
            Unavailable: the Hub did not say.
        """
        response = await self._send("GET", "/api/jobs/hardware", None)
        if response.status_code != HTTPStatus.OK:
            raise Unavailable("Hugging Face", retry_after=_read_retry_after(response))
        try:
            return _HARDWARE_ENTRIES.validate_json(response.content)
        except ValidationError as error:
            log.exception("hardware.misread")
            raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from error

    async def fetch_space(self, token: Secret, name: str) -> bytes | None:
        """Ask for the description of a Space; none if there is no such one for this token.

        Raises:
            Unavailable: the Hub did not say.
        """
        response = await self._send("GET", f"/api/spaces/{name}", token)
        if response.status_code == HTTPStatus.OK:
            return response.content
        if response.status_code in _NOT_VISIBLE_STATUSES:
            return None
        raise Unavailable("Hugging Face", retry_after=_read_retry_after(response))

    async def _send(self, method: str, path: str, token: Secret | None) -> httpx2.Response:
        # Our own two headers: `build_hf_headers` may go to the network, and blocks while it does.
        headers = {
            "user-agent": f"holdfast/{package_version()}",
            **({"authorization": f"Bearer {token.reveal()}"} if token else {}),
        }
        try:
            with anyio.fail_after(_TIMEOUT_SECONDS):
                return await self._session.request(
                    method,
                    f"{self._hub_url}{path}",
                    headers=headers,
                    timeout=httpx2.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS),
                    follow_redirects=False,
                )
        except (httpx2.TransportError, TimeoutError) as error:
            log.warning("hub.unanswered", path=path, error=type(error).__name__)
            raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from error


@asynccontextmanager
async def open_hub_account_client(hub_url: str) -> AsyncGenerator[HubAccountClient]:
    """Open the way to the Hub."""
    async with get_async_session() as session:
        session.cookies = http.make_reject_all_cookie_jar()
        yield HubAccountClient(session, hub_url)


def _parse_caller(answer: bytes, token: Secret) -> Caller:
    if (kind := _Principal.model_validate_json(answer).type) != "user":
        raise Unauthenticated(
            f"Holdfast acts for people, and this token belongs to another kind of account ({kind})."
        )
    user = _User.model_validate_json(answer)
    kind = _token_kind(user.auth)
    scopes, organisations = _read_authority(user, kind, token)
    return Caller(
        subject_id=user.id,
        name=user.name,
        token_kind=kind,
        token=token,
        scopes=scopes,
        obtainable_scopes=ALL_SCOPES - scopes if kind is TokenKind.OAUTH else frozenset(),
        organisations=tuple(sorted(organisations)),
        expires_at=user.auth.expires_at,
    )


def _token_kind(auth: _Auth) -> TokenKind:
    if auth.type == "oauth":
        return TokenKind.OAUTH
    role = auth.access_token.role
    # A role we do not know may do whatever the Hub then lets it do.
    return TokenKind(role) if role in set(TokenKind) else TokenKind.WRITE


def _read_authority(
    user: _User, kind: TokenKind, token: Secret
) -> tuple[frozenset[Scope], set[str]]:
    """Say what a token may do, and in which organisations."""
    belongs_to = {org.name for org in user.orgs if org.role_in_org in _ACTING_ROLES}
    match kind:
        case TokenKind.READ:
            return frozenset(), set()
        case TokenKind.WRITE:
            return ALL_SCOPES, belongs_to
        case TokenKind.OAUTH:
            return _read_oauth_scopes(token), belongs_to
        case TokenKind.FINE_GRAINED:
            scoped = user.auth.access_token.fine_grained.scoped
            scopes = {
                scope
                for scope, permission in _PERMISSIONS.items()
                if any(permission in entry.permissions for entry in scoped)
            }
            organisations = {
                entry.entity.name
                for entry in scoped
                if entry.entity.type == "org" and _PERMISSIONS[Scope.JOBS] in entry.permissions
            }
            return frozenset(scopes), organisations
        case _:
            assert_never(kind)


def _read_oauth_scopes(token: Secret) -> frozenset[Scope]:
    """Read the scopes out of an OAuth token that the Hub has just accepted.

    A hint, not a proof: whoami does not say, and what the token can do is settled by using it.
    """
    try:
        _, payload, _ = token.reveal().removeprefix("hf_oauth_").split(".")
        claims = _Claims.model_validate_json(base64.urlsafe_b64decode(payload + "=="))
    except ValueError:
        return ALL_SCOPES
    if claims.scope is None:
        return ALL_SCOPES
    given = claims.scope.split() if isinstance(claims.scope, str) else claims.scope
    return ALL_SCOPES & set(given)


def _read_error_message(response: httpx2.Response) -> str:
    """Return what the Hub said, for people; its first words are enough."""
    try:
        said = _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        said = response.reason_phrase
    return said[:300]


def _read_retry_after(response: httpx2.Response) -> timedelta:
    if (asked := response.headers.get("retry-after", "")).isdigit():
        return min(timedelta(seconds=int(asked)), _MAX_RETRY_AFTER)
    limits = parse_ratelimit_headers(response.headers)
    if limits is not None and limits.remaining == 0:
        return min(timedelta(seconds=limits.reset_in_seconds), _MAX_RETRY_AFTER)
    return _RETRY_AFTER
