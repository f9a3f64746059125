"""What the URL and the headers of a request choose: tools, and to be asked for a sign-in at once.

    /mcp?toolsets=jobs,account    only the tools of these        X-MCP-Toolsets: jobs,account
    /mcp/readonly                 only tools that read           X-MCP-Readonly: true
    /mcp?login                    401 until the client has signed in

URL and headers each take away: what one leaves out, the other does not bring back. The headers are
those of the GitHub MCP server.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope as Connection

from schema.common.errors import Invalid
from service.runtime.toolsets import ToolSelection, Toolset, parse_toolsets

READ_ONLY_PATH: Final = "/mcp/readonly"
_TOOLSETS_PARAMETER: Final = "toolsets"
_READ_ONLY_PARAMETER: Final = "readonly"
_LOGIN_PARAMETER: Final = "login"
"""As in the URL of the Hugging Face MCP server, for clients that sign in only when they connect."""
_TOOLSETS_HEADER: Final = "x-mcp-toolsets"
_READ_ONLY_HEADER: Final = "x-mcp-readonly"
_FALSE_WORDS: Final = frozenset({"", "false", "f", "no", "n", "0", "off"})
"""Every other value of the header is a yes."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request chooses."""

    selection: ToolSelection
    needs_sign_in: bool
    """Whether a caller without a token is asked to sign in, whatever they call."""


def read_options(scope: Connection) -> RequestOptions:
    """Read the options of a request; parameters of other names are ignored.

    Raises:
        Invalid: a toolset is unknown or named twice, or none is left.
    """
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(
        scope["query_string"].decode("latin-1"), keep_blank_values=True, separator="&"
    ):
        query.setdefault(name.strip().lower(), []).append(value)
    headers = Headers(scope=scope)
    choices = {
        "the URL": query.get(_TOOLSETS_PARAMETER, []),
        "the header X-MCP-Toolsets": headers.getlist(_TOOLSETS_HEADER),
    }
    toolsets = frozenset(Toolset)
    for place, values in choices.items():
        toolsets &= _read_toolsets(place, values)
    if not toolsets:
        raise Invalid(
            "The URL and the header X-MCP-Toolsets choose different toolsets, and only what both "
            "choose is there, so nothing is left. Choose in one of the two places."
        )
    read_only = scope["path"] == READ_ONLY_PATH or any(
        value.strip().lower() not in _FALSE_WORDS for value in headers.getlist(_READ_ONLY_HEADER)
    )
    # In a URL the name alone is a yes.
    read_only |= any(
        not value or value.strip().lower() not in _FALSE_WORDS
        for value in query.get(_READ_ONLY_PARAMETER, [])
    )
    return RequestOptions(ToolSelection(toolsets, read_only), _LOGIN_PARAMETER in query)


def _read_toolsets(place: str, values: list[str]) -> frozenset[Toolset]:
    if len(values) > 1:
        # One of them may come from a proxy that takes tools away; nobody can tell which.
        raise Invalid(f"Toolsets are chosen twice in {place}. Choose them once there, with commas.")
    return parse_toolsets(values[0]) if values else frozenset(Toolset)
