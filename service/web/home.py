"""The front page: what this is, how to connect a client, what a call carries, and every tool."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schema.common.errors import NotFound
from service.http.pages.rendering import respond_with_template
from service.mcp.catalog.help import SCOPE_USES
from service.mcp.tool import READ_ONLY, McpTool
from service.runtime.toolsets import TOOLS_BY_TOOLSET, ToolSelection, Toolset
from service.web.client_config import Connection, build_client_configs
from service.web.sessions import SignedInAccount
from service.web.tool_cards import build_tool_groups, describe_tools

_JSON_HEADERS: Final = {
    "cache-control": "public, max-age=300",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages say of this service."""

    public_url: str
    """Without a trailing slash."""
    tools: Sequence[McpTool]
    external_issuer: str | None
    """Who signs people in, if not Hugging Face."""
    can_connect: bool
    """Whether people can connect their account at Hugging Face, behind that issuer."""


@dataclass(frozen=True, slots=True)
class _NamedUse:
    name: str
    use: str


@dataclass(frozen=True, slots=True)
class _Access:
    """What a call carries."""

    summary: str
    headers: list[_NamedUse]
    scopes: list[_NamedUse]


@dataclass(frozen=True, slots=True)
class _ToolsetChoice:
    name: str
    count: int
    is_chosen: bool


class HomePages:
    """The pages that anybody may open."""

    def __init__(
        self, site: Site, show_account: Callable[[Request], SignedInAccount | None]
    ) -> None:
        """Prepare the page.

        Args:
            site: what it says.
            show_account: who has signed in, for its header.
        """
        self._site = site
        self._show_account = show_account
        self._groups = build_tool_groups(site.tools)
        self._tools = describe_tools(site.tools)
        self._access = _describe_access(site)

    @property
    def routes(self) -> list[Route]:
        """The routes of these pages."""
        return [
            Route("/", self.show_home, methods=["GET"]),
            Route("/schema", self.list_schemas, methods=["GET"]),
            Route("/schema/{tool}", self.show_schema, methods=["GET"]),
        ]

    async def show_home(self, request: Request) -> Response:
        """Show the front page, with the configuration that its address chooses."""
        selection = _read_selection(request.query_params)
        connection = Connection(
            self._site.public_url,
            None,
            toolsets=_name_toolsets(selection),
            read_only=selection.read_only,
        )
        configs = build_client_configs(connection)
        clients = list(dict.fromkeys(config.client for config in configs))
        chosen = request.query_params.get("client", "")
        client = chosen if chosen in clients else clients[0]
        return respond_with_template(
            "home.html",
            account=self._show_account(request),
            tools=self._site.tools,
            groups=self._groups,
            access=self._access,
            toolsets=self._list_choices(selection),
            read_only=selection.read_only,
            selected_count=sum(
                selection.includes(tool.name, is_read_only=tool.annotations == READ_ONLY)
                for tool in self._site.tools
            ),
            address=connection.endpoint,
            clients=clients,
            client=client,
            configs=[config for config in configs if config.client == client],
        )

    async def list_schemas(self, _: Request) -> Response:
        """Answer with every tool."""
        return _json_response({"tools": self._tools})

    async def show_schema(self, request: Request) -> Response:
        """Answer with one tool."""
        name = request.path_params["tool"]
        for tool in self._tools:
            if tool["name"] == name:
                return _json_response(tool)
        return _json_response(NotFound("tool", name).to_dict(), HTTPStatus.NOT_FOUND)

    def _list_choices(self, selection: ToolSelection) -> list[_ToolsetChoice]:
        present = {tool.name for tool in self._site.tools}
        return [
            _ToolsetChoice(
                toolset, len(TOOLS_BY_TOOLSET[toolset] & present), toolset in selection.toolsets
            )
            for toolset in Toolset
        ]


def _read_selection(parameters: QueryParams) -> ToolSelection:
    """Read what a form or a link chooses; what is in no toolset does not count."""
    names = {name.strip() for value in parameters.getlist("toolsets") for name in value.split(",")}
    toolsets = frozenset(toolset for toolset in Toolset if toolset in names)
    return ToolSelection(toolsets or frozenset(Toolset), bool(parameters.get("readonly")))


def _name_toolsets(selection: ToolSelection) -> tuple[str, ...]:
    """Return the names for an address; none: it has all of them without a word."""
    if len(selection.toolsets) == len(Toolset):
        return ()
    return tuple(toolset for toolset in Toolset if toolset in selection.toolsets)


def _describe_access(site: Site) -> _Access:
    signs_in_at = site.external_issuer or "Hugging Face"
    authorization = "hf_…" if site.external_issuer is None else f"a token of {site.external_issuer}"
    headers = [
        _NamedUse(
            "Authorization",
            f"Bearer, then {authorization}. A client with OAuth sends it by itself after the "
            "sign-in.",
        )
    ]
    if site.external_issuer is None:
        use = "The same, where a proxy keeps Authorization for itself."
    else:
        use = "Bearer hf_…, your token of Hugging Face, because the work runs in that account."
        if site.can_connect:
            use += " Not needed once you have connected your account at /connect."
    headers += [
        _NamedUse("X-HF-Authorization", use),
        _NamedUse("X-MCP-Toolsets", "Toolsets with commas between them, as in the address."),
        _NamedUse("X-MCP-Readonly", "true: only tools that read, as in the address /mcp/readonly."),
    ]
    return _Access(
        f"Anybody may list the tools. Every other call needs a sign-in at {signs_in_at}, or a "
        "token in a header.",
        headers,
        [_NamedUse(scope, f"To {use}.") for scope, use in SCOPE_USES.items()],
    )


def _json_response(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    return Response(text, status, _JSON_HEADERS, media_type="application/json")
