"""The Hub's OAuth scopes, with the words of the consent page for each."""

from typing import Final

from service.local.hub_emulator.oauth.errors import OAuthError

SCOPES: Final = {
    "openid": "know who you are",
    "profile": "read your name and picture",
    "email": "read your e-mail address",
    "read-billing": "know whether you can pay",
    "read-memberships": "read which organisations you belong to",
    "read-repos": "read your repositories",
    "gated-repos": "read gated repositories you have access to",
    "contribute-repos": "create repositories, and change those it created",
    "write-repos": "change your repositories",
    "manage-repos": "create, change and delete your repositories",
    "read-collections": "read your collections",
    "write-collections": "change your collections",
    "inference-api": "call models on your behalf",
    "read-endpoints": "read your inference endpoints",
    "write-endpoints": "change your inference endpoints",
    "jobs": "run jobs on your behalf",
    "webhooks": "manage your webhooks",
    "write-discussions": "write in discussions on your behalf",
    "read-mcp": "use the Hub's MCP server",
}
DEFAULT_SCOPE: Final = "openid profile"
"""The scopes of a client that names none; the Hub does not document its default."""


def parse_scope(scope: str) -> list[str]:
    """Return the scopes of a request in its order, without repetitions.

    Raises:
        OAuthError: there are none, or the Hub does not have one of them.
    """
    scopes = list(dict.fromkeys(scope.split()))
    if not scopes or not SCOPES.keys() >= set(scopes):
        raise OAuthError("invalid_scope", "The Hub does not have one of these scopes.")
    return scopes
