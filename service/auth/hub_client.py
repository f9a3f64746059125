"""What the Hub says about a token: whose it is, what it may do, and what it may see.

Each question has a deadline. A missing answer is an outage, and never counts as a yes.
"""

import base64
from collections.abc import Collection
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, assert_never
from urllib.parse import quote

import httpx2
import structlog
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
)

from schema.accounts.vault import Secret
from schema.common.errors import Unauthenticated, Unavailable
from schema.common.text import truncate
from schema.hub.client import HubAmbiguous, HubClient, HubError, HubJson, HubRejected
from service.auth.caller import (
    ALL_SCOPES,
    Billing,
    Caller,
    LaunchDenied,
    Scope,
    TokenKind,
    ZeroGpuQuota,
)

HUB_CONNECT_TIMEOUT: Final = timedelta(seconds=3)
"""Shorter than the worker's: a caller is waiting."""

_TIMEOUT: Final = timedelta(seconds=10)
_QUOTA_TIMEOUT: Final = timedelta(seconds=3)
"""Shorter: the answer to a caller is complete without it."""
_RETRY_AFTER: Final = timedelta(seconds=5)
_MAX_RETRY_AFTER: Final = timedelta(minutes=5)
"""The Hub's rate limits are counted in windows of this length."""

_MAX_ERROR_CHARS: Final = 300
_WHOAMI_PATH: Final = "/api/whoami-v2"
_QUOTA_PATH: Final = "/api/spaces/zero-gpu/quota"
_REFUSALS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_ACTING_ROLES: Final = frozenset({"admin", "write", "contributor"})
"""Roles in an organisation that may launch something in its name."""
_NOT_VISIBLE_STATUSES: Final = frozenset(
    {
        *(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
        # The Space was renamed; only its owner may learn the new name.
        *(HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.TEMPORARY_REDIRECT),
    }
)
_LAUNCH_PERMISSION: Final = "job.write"
_PERMISSIONS: Final = {
    Scope.JOBS: frozenset({_LAUNCH_PERMISSION}),
    Scope.INFERENCE: frozenset({"inference.serverless.write"}),
    Scope.CONTRIBUTE_REPOS: frozenset({"repo.write"}),
    Scope.READ_REPOS: frozenset({"repo.content.read", "repo.write"}),
}
"""For each scope the permissions of which a fine-grained token needs one."""
_WIDER_SCOPES: Final = {
    wider: frozenset({Scope.CONTRIBUTE_REPOS, Scope.READ_REPOS})
    for wider in ("write-repos", "manage-repos")
}

log = structlog.stdlib.get_logger()


class _Entity(HubJson):
    type: str
    name: str


class _ScopedPermissions(HubJson):
    entity: _Entity
    permissions: frozenset[str] = frozenset()


class _FineGrained(HubJson):
    scoped: list[_ScopedPermissions] = []


class _AccessToken(HubJson):
    role: str | None = None
    fine_grained: _FineGrained = _FineGrained()


class _Auth(HubJson):
    type: str | None = None
    expires_at: datetime | None = None
    access_token: _AccessToken = _AccessToken()


def _bool_or_none(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


_ShownFlag = Annotated[bool | None, BeforeValidator(_bool_or_none)]
"""A flag that is only shown: nobody is kept out because it has another form."""


class _Organisation(HubJson):
    name: str
    role_in_org: str | None = None
    can_pay: _ShownFlag = None
    spend_limit_reached: _ShownFlag = None


class _Principal(HubJson):
    type: str


class _User(_Principal):
    id: str = Field(pattern=r"^[0-9a-f]{24}$")
    name: str = Field(min_length=1)
    orgs: list[_Organisation] = []
    auth: _Auth = _Auth()
    is_pro: _ShownFlag = None
    can_pay: _ShownFlag = None


class _ZeroGpuQuota(HubJson):
    base: FiniteFloat
    current: FiniteFloat
    resets_at: AwareDatetime | None = None
    overquota_used: FiniteFloat | None = None


class _ErrorBody(BaseModel):
    error: str


class _Claims(BaseModel):
    scope: str | list[str] | None = None


class HubAccountClient:
    """The Hub's answers about tokens, and about what a token may see."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def whoami(self, token: Secret) -> Caller:
        """Ask whose token this is.

        Raises:
            Unauthenticated: the Hub does not accept it, or it does not belong to a person.
            Unavailable: the Hub did not say.
        """
        response = await self._send("GET", _WHOAMI_PATH, token, accepted_statuses=_REFUSALS)
        if response.status_code in _REFUSALS:
            raise Unauthenticated(
                "Hugging Face does not accept this token: it is wrong, expired or revoked. "
                "Sign in again, or make a new one at https://huggingface.co/settings/tokens."
            )
        try:
            return _parse_caller(response.content, token)
        except ValidationError as error:
            log.exception("whoami.misread")
            raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from error

    async def fetch_zero_gpu_quota(self, token: Secret) -> ZeroGpuQuota | None:
        """Ask what a person may still use of ZeroGPU; None: the token may not see it.

        Raises:
            Unavailable: the Hub did not say.
        """
        response = await self._send(
            "GET",
            _QUOTA_PATH,
            token,
            accepted_statuses=_NOT_VISIBLE_STATUSES,
            timeout=_QUOTA_TIMEOUT,
        )
        if response.status_code in _NOT_VISIBLE_STATUSES:
            return None
        try:
            quota = _ZeroGpuQuota.model_validate_json(response.content)
        except ValidationError as error:
            log.exception("quota.misread")
            raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from error
        return ZeroGpuQuota(
            limit_seconds=quota.base,
            left_seconds=quota.current,
            resets_at=quota.resets_at,
            paid_seconds=quota.overquota_used,
        )

    async def check_launch(self, caller: Caller, namespace: str) -> None:
        """Ask whether a token may launch jobs in a namespace, without launching any.

        Raises:
            LaunchDenied: it may not.
            Unauthenticated: the Hub does not accept it any more.
            Unavailable: the Hub did not say.
        """
        path = f"/api/jobs/{quote(namespace, safe='')}/auth-check/write"
        response = await self._send("POST", path, caller.token, accepted_statuses=_REFUSALS)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise Unauthenticated("Hugging Face no longer accepts this token. Sign in again.")
        if response.status_code == HTTPStatus.FORBIDDEN:
            raise LaunchDenied(namespace, _read_error_message(response))

    async def is_visible(self, token: Secret, kind: str, name: str) -> bool:
        """Ask whether a token sees a repository or a bucket.

        Raises:
            Unavailable: the Hub did not say.
        """
        tree = "/tree/main" if kind in {"models", "datasets"} else ""
        response = await self._send(
            "GET", f"/api/{kind}/{name}{tree}", token, accepted_statuses=_NOT_VISIBLE_STATUSES
        )
        return response.status_code not in _NOT_VISIBLE_STATUSES

    async def fetch_space(self, token: Secret, name: str) -> bytes | None:
        """Fetch the description of a Space; None if this token can see no such Space.

        Raises:
            Unavailable: the Hub did not say.
        """
        response = await self._send(
            "GET", f"/api/spaces/{name}", token, accepted_statuses=_NOT_VISIBLE_STATUSES
        )
        return None if response.status_code in _NOT_VISIBLE_STATUSES else response.content

    async def _send(
        self,
        method: str,
        path: str,
        token: Secret,
        *,
        accepted_statuses: Collection[int],
        timeout: timedelta = _TIMEOUT,
    ) -> httpx2.Response:
        """Send one request; return a response of success, or with one of the accepted statuses.

        Raises:
            Unavailable: there is no such response.
        """
        url = f"{self._hub.url}{path}"
        try:
            return await self._hub.send(
                method, url, token, timeout=timeout, accepted_statuses=accepted_statuses
            )
        except HubError as error:
            match error:
                case HubRejected(status=int(status)) | HubAmbiguous(status=int(status)):
                    if path == _WHOAMI_PATH:
                        log.warning("whoami.refused", status=status)
                case _:
                    log.warning("hub.unanswered", path=path, error=str(error))
            retry_after = min(error.retry_after or _RETRY_AFTER, _MAX_RETRY_AFTER)
            raise Unavailable("Hugging Face", retry_after=retry_after) from error


def _parse_caller(body: bytes, token: Secret) -> Caller:
    if (account_type := _Principal.model_validate_json(body).type) != "user":
        raise Unauthenticated(
            "Holdfast acts for people, and this token belongs to another kind of account "
            f"({account_type})."
        )
    user = _User.model_validate_json(body)
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
        billing=_read_billing(user),
        expires_at=user.auth.expires_at,
    )


def _read_billing(user: _User) -> Billing:
    return Billing(
        plan=None if user.is_pro is None else "pro" if user.is_pro else "free",
        can_pay=user.can_pay,
        unpaid_organisations=tuple(
            sorted(org.name for org in user.orgs if org.can_pay is False or org.spend_limit_reached)
        ),
    )


def _token_kind(auth: _Auth) -> TokenKind:
    if auth.type == "oauth":
        return TokenKind.OAUTH
    role = auth.access_token.role
    # The Hub decides at each use what a token of an unknown role may do.
    return TokenKind(role) if role in set(TokenKind) else TokenKind.WRITE


def _read_authority(
    user: _User, kind: TokenKind, token: Secret
) -> tuple[frozenset[Scope], set[str]]:
    """Return what a token may do, and in which organisations."""
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
                for scope, sufficient in _PERMISSIONS.items()
                if any(not sufficient.isdisjoint(entry.permissions) for entry in scoped)
            }
            organisations = {
                entry.entity.name
                for entry in scoped
                if entry.entity.type == "org" and _LAUNCH_PERMISSION in entry.permissions
            }
            return frozenset(scopes), organisations
        case _:
            assert_never(kind)


def _read_oauth_scopes(token: Secret) -> frozenset[Scope]:
    """Read the scopes of an OAuth token that the Hub has just accepted.

    They are a hint, not a proof: whoami does not tell them, and the Hub decides at each use.
    """
    try:
        _, payload, _ = token.reveal().removeprefix("hf_oauth_").split(".")
        claims = _Claims.model_validate_json(base64.urlsafe_b64decode(payload + "=="))
    except ValueError:
        return ALL_SCOPES
    if claims.scope is None:
        return ALL_SCOPES
    scopes = claims.scope.split() if isinstance(claims.scope, str) else claims.scope
    included = [_WIDER_SCOPES.get(scope, frozenset[Scope]()) for scope in scopes]
    return (ALL_SCOPES & set(scopes)).union(*included)


def _read_error_message(response: httpx2.Response) -> str:
    """Return the Hub's error message, shortened."""
    try:
        message = _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        message = response.reason_phrase
    return truncate(message, _MAX_ERROR_CHARS, keeps_end=True)
