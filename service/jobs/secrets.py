"""The secrets of a launch: values of their own, and names that stand for the caller's token.

`"$HF_TOKEN"` as the value of a secret stands for that token, as it does in other servers. The token
is not stored as a secret of the job: each launch takes it from the vault, like every other use.
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
    """Secrets with a value of their own."""
    token_names: frozenset[str] = frozenset()
    """Names of the secrets that are the caller's token."""

    def spec_fields(self) -> dict[str, Any]:
        """Return the fields of a `HubJobSpec`: names of secrets, and no value."""
        return {
            "secrets": list(self.values),
            "pass_token": TOKEN_VARIABLE in self.token_names,
            "token_as": list(self.token_names - {TOKEN_VARIABLE}),
        }


def split_secrets(
    secrets: Mapping[str, str] | None, *, token_names: frozenset[str] = frozenset()
) -> SecretArguments:
    """Tell the caller's token from other secrets.

    Args:
        secrets: texts by name; a placeholder stands for the token.
        token_names: names that stand for the token in any case.
    """
    texts = secrets or {}
    placeholders = frozenset(name for name, text in texts.items() if text in TOKEN_PLACEHOLDERS)
    values = {name: Secret(text) for name, text in texts.items() if name not in placeholders}
    return SecretArguments(values, placeholders | token_names)
