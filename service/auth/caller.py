"""The caller of a request: identity at the Hub, and what their token allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from schema.accounts.vault import Secret
from schema.common.errors import Denied, Unavailable


class Scope(StrEnum):
    """A scope that a tool may need, by its name in the OAuth of the Hub."""

    JOBS = "jobs"
    """Permission `job.write` of a fine-grained token."""

    INFERENCE = "inference-api"
    """Permission `inference.serverless.write` of a fine-grained token."""

    CONTRIBUTE_REPOS = "contribute-repos"
    """Permission `repo.write`: to prepare the bucket of outputs, and to write into a volume."""

    READ_REPOS = "read-repos"
    """Permission `repo.content.read`: to read what is private."""


ALL_SCOPES: Final = frozenset(Scope)
ACTING_SCOPES: Final = (Scope.JOBS, Scope.INFERENCE)
"""The scopes to launch something; the others are for what a launch reads and writes."""
_PERMISSIONS: Final = {
    Scope.CONTRIBUTE_REPOS: "repo.write",
    Scope.READ_REPOS: "repo.content.read",
}


class TokenKind(StrEnum):
    """The kind of a token, by its name in the API of the Hub."""

    READ = "read"
    WRITE = "write"
    FINE_GRAINED = "fineGrained"
    OAUTH = "oauth"


class InsufficientScope(Denied):
    """The token, or the sign-in beside it, lacks scopes that the call needs."""

    def __init__(self, scope: Scope, token_kind: TokenKind, *others: Scope) -> None:
        missing = (scope, *others)
        permissions = [_PERMISSIONS[scope] for scope in missing if scope in _PERMISSIONS]
        if not set(missing).isdisjoint(ACTING_SCOPES):
            permissions = ["job.write and inference.serverless.write", *permissions]
        names = f"scope{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
        if token_kind is TokenKind.OAUTH:
            remedy = f"Sign in again and grant the {names}."
        else:
            several = len(permissions) > 1 or " and " in permissions[0]
            remedy = (
                "Give your client a token with the role write, or a fine-grained one with the "
                f"permission{'s' if several else ''} {' and '.join(permissions)}, from "
                "https://huggingface.co/settings/tokens."
            )
        fault = "is read-only" if token_kind is TokenKind.READ else f"lacks the {names}"
        if Scope.READ_REPOS in missing:
            remedy += " What the call reads is not public, or there is nothing of that name."
        if Scope.CONTRIBUTE_REPOS in missing:
            remedy += " Outputs, and volumes that are written, need a bucket of yours."
        super().__init__(f"Your Hugging Face token {fault}, so nothing was done. {remedy}")


class SignInLacksScope(InsufficientScope):
    """The sign-in at an authorization server lacks scopes, whatever the token of the Hub allows."""

    def __init__(self, issuer: str, names: Sequence[str]) -> None:
        """Name what is missing.

        Args:
            issuer: the authorization server.
            names: the scopes, as that server calls them.
        """
        scopes = f"scope{'s' if len(names) > 1 else ''} {' and '.join(names)}"
        Denied.__init__(
            self,
            f"Your sign-in at {issuer} lacks the {scopes}, so nothing was done. Sign in again and "
            f"grant the {scopes}; the authorization server has to know and allow them.",
        )
        self.names = names

    @property
    def code(self) -> str:
        """The code of any other missing scope: a client does the same about it."""
        return InsufficientScope.__name__


class NamespaceDenied(Denied):
    """The token does not allow jobs in the account that would run and pay for them."""

    def __init__(self, namespace: str, own_namespace: str, token_kind: TokenKind) -> None:
        if token_kind is TokenKind.OAUTH:
            settings_page = (
                "https://huggingface.co/settings/connected-applications, and sign in again"
            )
        else:
            settings_page = "https://huggingface.co/settings/tokens"
        super().__init__(
            f"Your sign-in does not let you run jobs as {namespace}, so nothing was done. Have "
            f"that organisation granted at {settings_page}; or give "
            f"namespace={own_namespace!r} to run them as {own_namespace}."
        )


class LaunchDenied(Denied):
    """The Hub does not let the token launch jobs in a namespace."""

    def __init__(self, namespace: str, hub_message: str) -> None:
        super().__init__(
            f"Hugging Face does not let your token run jobs as {namespace}: {hub_message} "
            f"Nothing was launched. Give it the permission job.write there, and look at who pays "
            f"for it at https://huggingface.co/settings/billing."
        )


@dataclass(frozen=True, slots=True)
class Billing:
    """Who can pay at the Hub, as far as the token shows it."""

    plan: str | None = None
    """`pro` or `free`."""
    can_pay: bool | None = None
    """None: the token does not show it."""
    unpaid_organisations: tuple[str, ...] = ()
    """Those that cannot pay, or have reached their spend limit."""


@dataclass(frozen=True, slots=True)
class ZeroGpuQuota:
    """What Spaces on ZeroGPU may still use of a person, in seconds of a GPU."""

    limit_seconds: float
    left_seconds: float
    resets_at: datetime | None
    """None: nothing of it has been used."""
    paid_seconds: float | None
    """Used beyond it, and paid for."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in at an authorization server that is not the Hub."""

    issuer: str
    subject: str
    audience: str
    scope_names: Mapping[Scope, str]
    """What that server calls the scopes that it decides about."""
    name: str | None = None
    email: str | None = None
    """For display only: the server need not have verified it."""
    is_connected: bool = False
    """Whether the call acts with the connected account, and brought no token of the Hub."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller, as the Hub describes them."""

    subject_id: str
    """Never changes; the name may."""
    name: str
    """Their own namespace at the Hub, which runs and pays for their jobs by default."""
    token_kind: TokenKind
    token: Secret
    scopes: frozenset[Scope] = ALL_SCOPES
    """As far as is known beforehand; the Hub decides."""
    obtainable_scopes: frozenset[Scope] = frozenset()
    """What they lack, and would get by signing in again."""
    organisations: tuple[str, ...] = ()
    """Other namespaces in which the token may act."""
    billing: Billing = Billing()
    expires_at: datetime | None = None
    sign_in: SignIn | None = None
    """None: the Hub itself authenticated them."""
    connection_id: UUID | None = None
    """Of the connected account whose token it is; None: they have sent the token."""
    storage_error: Unavailable | None = None
    """Why their token could not be stored for their jobs; None: it is stored."""

    @property
    def can_act(self) -> bool:
        """Whether the token may launch anything."""
        return not self.scopes.isdisjoint(ACTING_SCOPES)

    @property
    def grants(self) -> list[str]:
        """Everything that the token allows, to choose the better one of two tokens."""
        return sorted([*self.scopes, *(f"org:{name}" for name in self.organisations)])

    def require_scope(self, scope: Scope) -> None:
        """Check that the token has a scope.

        Raises:
            InsufficientScope: it lacks the scope.
        """
        if scope not in self.scopes:
            raise self.missing_scopes_error(scope)

    def missing_scopes_error(self, scope: Scope, *others: Scope) -> InsufficientScope:
        """Build the error for scopes that a call needs and the caller lacks."""
        if self.sign_in is not None and scope in self.obtainable_scopes:
            names = self.sign_in.scope_names
            return SignInLacksScope(
                self.sign_in.issuer, [names.get(each, each) for each in (scope, *others)]
            )
        return InsufficientScope(scope, self.token_kind, *others)

    def resolve_namespace(self, namespace: str | None) -> str:
        """Return the account that runs and pays: their own, or an organisation.

        Args:
            namespace: what the caller named; None: their own.

        Raises:
            NamespaceDenied: the token may not act there.
        """
        if namespace is None or namespace == self.name:
            return self.name
        if namespace not in self.organisations:
            raise NamespaceDenied(namespace, self.name, self.token_kind)
        return namespace
