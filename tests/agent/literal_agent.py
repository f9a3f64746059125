"""An agent that has read only the list of tools, and follows every answer literally.

It picks its first tool by the words of the task, fills in what the person told it, and from then on
does what the answers say: the first call that is written out in one, word for word, or, after a
refusal, the same call corrected as the refusal says. It knows no name of a tool, no state and no
error; where an answer leaves it without a call to make, it stops.

Hosts differ in what they hand a model: some the content of an answer, some its structured content
instead. The agent sees one of the two, and never the other.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import log
from typing import Any, Final

import anyio
from mcp import Client
from mcp_types import CallToolResult, ContentBlock, TextContent, Tool

from schema.common import durations

_WORD: Final = re.compile(r"[a-z]{3,}")
_WAIT_HINT: Final = re.compile(r"^ (?:again )?in ((?:\d+[a-z]+)+)")
_CORRECT_CALL: Final = re.compile(r"A correct call: (\w+) (\{.*\})")
_LIST_HINT: Final = re.compile(r"(\w+): .*?give the list (\[.*?\])")


class HostView(StrEnum):
    """What a host hands its model of an answer."""

    CONTENT = "content"
    STRUCTURED = "structured"
    """The structured content; of a refusal, which has none, the content."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool."""

    tool: str
    arguments: dict[str, Any]
    wait_seconds: float = 0
    """Seconds it is to be put off."""


@dataclass(slots=True)
class AgentRun:
    """What the agent did, and what it was told each time."""

    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    answers: list[str] = field(default_factory=list[str])

    @property
    def tools(self) -> list[str]:
        """The tools it called, in order."""
        return [call.tool for call in self.calls]


class LiteralAgent:
    """Carries out what a person asks for."""

    def __init__(self, client: Client, tools: list[Tool], host_view: HostView) -> None:
        self._client = client
        self._host_view = host_view
        self._tools = {tool.name: tool for tool in tools}

    async def carry_out(self, task: str, *, max_calls: int = 8, **facts: Any) -> AgentRun:
        """Work on a task, given what the person said of it, until no answer names a call."""
        story = AgentRun()
        following: ToolCall | None = self._choose_first_call(task, facts)
        while following is not None and len(story.calls) < max_calls:
            await anyio.sleep(following.wait_seconds)  # as long as the answer said to wait
            answer = await self._client.call_tool(following.tool, following.arguments)
            text = self._read_answer(answer)
            story.calls.append(following)
            story.answers.append(text)
            following = _correct_call(following, text) if answer.is_error else self._read_call(text)
        return story

    def _read_answer(self, answer: CallToolResult) -> str:
        """Return what the agent sees of an answer."""
        if self._host_view is HostView.STRUCTURED and answer.structured_content is not None:
            return "\n".join(_list_values(answer.structured_content))
        return "\n".join(_describe_block(block) for block in answer.content)

    def _choose_first_call(self, task: str, facts: dict[str, Any]) -> ToolCall:
        """Pick the tool whose words are most like the task's, rare words counting most."""
        task_words = _words(task)
        texts = {
            name: _words(f"{name.replace('_', ' ')} {tool.title} {tool.description}")
            for name, tool in self._tools.items()
        }
        common = Counter(word for words in texts.values() for word in words)
        takes = {
            name: set(tool.input_schema["properties"]) >= facts.keys()
            for name, tool in self._tools.items()
        }
        best = max(
            (name for name in texts if takes[name]),
            key=lambda name: sum(
                log(len(texts) / common[word]) for word in task_words & texts[name]
            ),
        )
        return ToolCall(best, facts)

    def _read_call(self, answer: str) -> ToolCall | None:
        """Read the first call that is written out in an answer."""
        for name in re.finditer(r"\b(\w+)\(", answer):
            if name[1] not in self._tools:
                continue
            end = _find_closing_bracket(answer, name.end())
            written = ast.parse(f"f({answer[name.end() : end]})", mode="eval").body
            assert isinstance(written, ast.Call)
            arguments = {word.arg or "": ast.literal_eval(word.value) for word in written.keywords}
            later = _WAIT_HINT.match(answer[end + 1 :])
            wait = durations.parse_duration(later[1]).total_seconds() if later else 0
            return ToolCall(name[1], arguments, wait)
        return None


def merge_repeated_waits(tools: list[str]) -> list[str]:
    """Take waits that follow one another for one."""
    return [
        tool
        for before, tool in zip([None, *tools], tools, strict=False)
        if (before, tool) != ("wait_for_jobs",) * 2
    ]


def _correct_call(refused: ToolCall, answer: str) -> ToolCall | None:
    """Repeat a call as its refusal says it should have been; none if it does not say."""
    if (whole := _CORRECT_CALL.search(answer)) is not None:
        return ToolCall(whole[1], json.loads(whole[2]))
    meant = re.search(r"did you mean \"?([\w-]+)", answer, re.IGNORECASE)
    named = [name for name in refused.arguments if re.search(rf"\b{name}\b", answer)]
    arguments = (
        refused.arguments
        | ({named[0]: meant[1]} if meant and named else {})
        | {argument: ast.literal_eval(written) for argument, written in _LIST_HINT.findall(answer)}
    )
    return None if arguments == refused.arguments else ToolCall(refused.tool, arguments)


def _find_closing_bracket(text: str, start: int) -> int:
    """Find the bracket that closes a call; brackets within quotes do not count."""
    quoted = False
    for place in range(start, len(text)):
        if text[place] == '"':
            quoted = not quoted
        if text[place] == ")" and not quoted:
            return place
    return len(text)


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in _WORD.findall(text.lower())}


def _describe_block(block: ContentBlock) -> str:
    return block.text if isinstance(block, TextContent) else f"[{block.type}]"


def _list_values(value: Any, name: str = "") -> Iterator[str]:
    """Yield the values of an object in its order, with the sign of money where a name has it."""
    match value:
        case {**fields}:
            for field_name, member in fields.items():
                yield from _list_values(member, str(field_name))
        case [*members]:
            for member in members:
                yield from _list_values(member, name)
        case None:
            pass
        case _:
            yield f"{'$' if name.endswith('_usd') else ''}{value}"
