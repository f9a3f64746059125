"""Which secrets of a job are given as they are, and which are the caller's own token?

`"$HF_TOKEN"` as the value of a secret stands for that token, as it does for other servers: it is
not kept as a text, but lent anew for each launch like every other use of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schema.accounts.vault import Secret
from schema.specs.hub_job import TOKEN_PLACEHOLDERS, TOKEN_VARIABLE


@dataclass(frozen=True, slots=True)
class SecretArguments:
    """The secrets of a launch."""

    values: dict[str, Secret] = field(default_factory=dict[str, Secret])
    """Those with a value of their own."""
    token_names: frozenset[str] = frozenset()
    """Names of those that are the caller's token."""

    def spec_fields(self) -> dict[str, Any]:
        """Say in a request what the job is given: names, and no value."""
        return {
            "secrets": list(self.values),
            "pass_token": TOKEN_VARIABLE in self.token_names,
            "token_as": list(self.token_names - {TOKEN_VARIABLE}),
        }


def split_secrets(
    secrets: Mapping[str, str] | None, *, token_names: frozenset[str] = frozenset()
) -> SecretArguments:
    """Tell a caller's token from other secrets; `tokens` names what is one in any case."""
    given = secrets or {}
    meant = frozenset(name for name, text in given.items() if text in TOKEN_PLACEHOLDERS)
    sealed = {name: Secret(text) for name, text in given.items() if name not in meant}
    return SecretArguments(sealed, meant | token_names)
