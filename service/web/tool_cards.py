"""The tools as people read them, and as JSON: both from the registry that answers `tools/list`."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.mcp.tool import DESTRUCTIVE, READ_ONLY, McpTool
from service.runtime.toolsets import TOOLS_BY_TOOLSET, Toolset

_GROUPS: Final[Mapping[str, tuple[Toolset, ...]]] = {
    "Jobs": (Toolset.JOBS, Toolset.INFERENCE, Toolset.SPACES, Toolset.BATCHES),
    "Schedules": (Toolset.SCHEDULES,),
    "Workspaces": (Toolset.WORKSPACES,),
    "Account": (Toolset.ACCOUNT,),
}
_OTHERS: Final = "Others"
_SENTENCE_END: Final = re.compile(r"(?<=[.:]) ")


@dataclass(frozen=True, slots=True)
class ToolEffect:
    """What a call changes, in a word and a colour."""

    word: str
    colour: str


@dataclass(frozen=True, slots=True)
class ToolArgument:
    """An argument of a tool."""

    name: str
    type: str
    description: str
    is_required: bool
    default: str
    """As JSON; empty: there is none."""


@dataclass(frozen=True, slots=True)
class ToolCard:
    """A tool, as the page shows it."""

    name: str
    title: str
    paragraphs: list[str]
    summary: str
    """The first sentence of them."""
    effect: ToolEffect
    is_public: bool
    needs: str
    """What a call needs, in a sentence."""
    arguments: list[ToolArgument]


@dataclass(frozen=True, slots=True)
class ToolGroup:
    """Tools that belong together."""

    name: str
    tools: list[ToolCard]


def build_tool_groups(tools: Iterable[McpTool]) -> list[ToolGroup]:
    """Group all tools; one that is in no toolset comes last."""
    cards: dict[str, list[ToolCard]] = {name: [] for name in (*_GROUPS, _OTHERS)}
    for tool in tools:
        cards[_find_group(tool.name)].append(_build_card(tool))
    return [ToolGroup(name, group) for name, group in cards.items() if group]


def describe_tools(tools: Iterable[McpTool]) -> list[dict[str, Any]]:
    """Return each tool as `tools/list` does, with the scopes that it needs."""
    return [
        {
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": tool.parameters,
            "outputSchema": tool.output_schema,
            "annotations": _dump_annotations(tool),
            "scopes": [str(scope) for scope in tool.required_scopes],
            "needsSignIn": not tool.is_public,
        }
        for tool in tools
    ]


def _dump_annotations(tool: McpTool) -> dict[str, Any]:
    if tool.annotations is None:
        return {}
    return tool.annotations.model_dump(mode="json", by_alias=True, exclude_none=True)


def _find_group(tool: str) -> str:
    for group, toolsets in _GROUPS.items():
        if any(tool in TOOLS_BY_TOOLSET[toolset] for toolset in toolsets):
            return group
    return _OTHERS


def _build_card(tool: McpTool) -> ToolCard:
    schema, paragraphs = tool.parameters, tool.description.splitlines()
    required: Sequence[str] = schema.get("required", ())
    return ToolCard(
        name=tool.name,
        title=tool.title or tool.name,
        paragraphs=paragraphs,
        summary=_SENTENCE_END.split(paragraphs[0], maxsplit=1)[0] if paragraphs else "",
        effect=_find_effect(tool),
        is_public=tool.is_public,
        needs=_describe_needs(tool),
        arguments=[
            _build_argument(name, argument, is_required=name in required)
            for name, argument in schema.get("properties", {}).items()
        ],
    )


def _find_effect(tool: McpTool) -> ToolEffect:
    if tool.annotations == READ_ONLY:
        return ToolEffect("reads", "grey")
    if tool.annotations == DESTRUCTIVE:
        return ToolEffect("ends or deletes", "red")
    return ToolEffect("writes", "blue")


def _describe_needs(tool: McpTool) -> str:
    if tool.is_public:
        return "It needs no sign-in."
    if not tool.required_scopes:
        return "It needs a sign-in, and no scope."
    scopes = " or ".join(map(str, tool.required_scopes))
    return f"It needs a sign-in with the scope {scopes}."


def _build_argument(name: str, schema: Mapping[str, Any], *, is_required: bool) -> ToolArgument:
    alternatives: Sequence[Mapping[str, Any]] = schema.get("anyOf", [schema])
    described = (each["description"] for each in alternatives if "description" in each)
    defaults = (each["default"] for each in alternatives if "default" in each)
    default = next(defaults, None)
    return ToolArgument(
        name,
        " or ".join(_describe_type(each) for each in alternatives),
        next(described, ""),
        is_required,
        "" if default is None else json.dumps(default),
    )


def _describe_type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_describe_type(schema.get('items', {}))}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if key in schema
    ]
    return " ".join([kind, *bounds])
