"""A caller: whom the Hub vouches for, and what their token lets us do for them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from schema.accounts.vault import Secret
from schema.common.errors import Denied, Unavailable


class Scope(StrEnum):
    """What a tool may need of a token, as the Hub's OAuth calls it."""

    JOBS = "jobs"
    """Permission `job.write` of a fine-grained token."""

    INFERENCE = "inference-api"
    """Permission `inference.serverless.write` of a fine-grained token."""


ALL_SCOPES: Final = frozenset(Scope)


class TokenKind(StrEnum):
    """What sort of token somebody showed."""

    READ = "read"
    WRITE = "write"
    FINE_GRAINED = "fineGrained"
    OAUTH = "oauth"


class InsufficientScope(Denied):
    """The token lacks what this needs."""

    def __init__(self, scope: Scope, token_kind: TokenKind) -> None:
        self.scope = scope
        if token_kind is TokenKind.OAUTH:
            cure = f"Sign in again and grant the scope {scope}."
        else:
            cure = (
                "Give your client a token with the role write, or a fine-grained one with the "
                "permissions job.write and inference.serverless.write, from "
                "https://huggingface.co/settings/tokens."
            )
        said = "is read-only" if token_kind is TokenKind.READ else f"lacks the scope {scope}"
        super().__init__(f"Your Hugging Face token {said}, so nothing was done. {cure}")


class NamespaceDenied(Denied):
    """The token does not reach the account that is to act and to pay."""

    def __init__(self, namespace: str, own_namespace: str, token_kind: TokenKind) -> None:
        if token_kind is TokenKind.OAUTH:
            where = "https://huggingface.co/settings/connected-applications, and sign in again"
        else:
            where = "https://huggingface.co/settings/tokens"
        super().__init__(
            f"Your sign-in does not let you run jobs as {namespace}, so nothing was done. Have "
            f"that organisation granted at {where}; or give namespace={own_namespace!r} to run "
            f"them as {own_namespace}."
        )


class LaunchDenied(Denied):
    """The Hub does not let the token launch jobs in a namespace."""

    def __init__(self, namespace: str, hub_message: str) -> None:
        super().__init__(
            f"Hugging Face does not let your token run jobs as {namespace}: {hub_message} "
            "Nothing was "
            f"launched. Give it the permission job.write there, and look at who pays for it at "
            f"https://huggingface.co/settings/billing."
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, as the Hub vouches for them."""

    subject_id: str
    """Never changes, as the name can."""
    name: str
    """Their own namespace at the Hub: where their jobs run, and who pays, unless told otherwise."""
    token_kind: TokenKind
    token: Secret
    scopes: frozenset[Scope] = ALL_SCOPES
    """As far as can be told beforehand; the Hub has the last word."""
    obtainable_scopes: frozenset[Scope] = frozenset()
    """What they lack, and would have after signing in for it."""
    organisations: tuple[str, ...] = ()
    """Namespaces besides their own in which the token may act."""
    expires_at: datetime | None = None
    storage_error: Unavailable | None = None
    """Why their token could not be kept for their jobs."""

    @property
    def can_act(self) -> bool:
        """Whether the token may do more than read."""
        return bool(self.scopes)

    @property
    def grants(self) -> list[str]:
        """Everything the token lets us do, to tell the better of two."""
        return sorted([*self.scopes, *(f"org:{name}" for name in self.organisations)])

    def require_scope(self, scope: Scope) -> None:
        """Refuse what the token is not enough for.

        Raises:
            InsufficientScope: it lacks this scope.
        """
        if scope not in self.scopes:
            raise InsufficientScope(scope, self.token_kind)

    def resolve_namespace(self, namespace: str | None) -> str:
        """Return the account that acts and pays: their own, or an organisation they may act for.

        Raises:
            NamespaceDenied: the token does not reach it.
        """
        if namespace is None or namespace == self.name:
            return self.name
        if namespace not in self.organisations:
            raise NamespaceDenied(namespace, self.name, self.token_kind)
        return namespace
