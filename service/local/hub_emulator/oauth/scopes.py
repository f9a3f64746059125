"""What can a client ask for? The Hub's scopes, in the words a person is asked with."""

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
"""What a client gets that does not say what it wants; what the Hub gives is not documented."""


def parse_scope(scope: str) -> list[str]:
    """Return the scopes of a request, each once and in its order.

    Raises:
        OAuthRefusal: one of them is none.
    """
    asked = list(dict.fromkeys(scope.split()))
    if not asked or not SCOPES.keys() >= set(asked):
        raise OAuthError("invalid_scope", "The Hub does not have one of these scopes.")
    return asked
