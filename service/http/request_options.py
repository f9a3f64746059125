"""What the URL of a request chooses: to be asked for a sign-in at once.

/mcp?login      401 until the client has signed in, also for what needs nobody
"""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.types import Scope as Connection

_LOGIN_PARAMETER = "login"
"""As in the URL of the Hugging Face MCP server, for clients that sign in only when they connect."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request chooses."""

    needs_sign_in: bool = False
    """Whether a caller without a token is asked to sign in, whatever they call."""


def read_options(scope: Connection) -> RequestOptions:
    """Read the options of a request; parameters of other names are ignored."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    names = {name.lower() for name, _ in query}
    return RequestOptions(needs_sign_in=_LOGIN_PARAMETER in names)
