"""The answer of a call as words, and as JSON that fits a reply.

Many hosts hand a model nothing of a reply but its text. So the text has everything that the object
has: a text as it is, labels with their scores, the shape and the first numbers of embeddings, and
anything else as compact JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from schema.common.text import truncate
from service.views.text import count_json_bytes

_MAX_FACT_BYTES: Final = 400
"""A longer value stands in the body of an answer, a shorter one in the line before."""
_NUMBERS_PER_VECTOR: Final = 8
_MAX_VECTORS: Final = 20
_MAX_DEPTH: Final = 12
_SIZE_STEPS: Final = ((4000, 200), (1000, 50), (300, 20), (100, 8), (40, 3), (20, 1))
"""Characters of a text and entries of a list or an object, from generous to tight."""


@dataclass(frozen=True, slots=True)
class AnswerText:
    """What a call answered, as words."""

    facts: str
    """What is short, such as the model and the usage, on one line; empty if there is nothing."""
    body: str
    """The answer itself."""
    is_whole: bool
    """Whether the two say everything that the answer has."""


def describe_answer(result: Mapping[str, Any]) -> AnswerText:
    """Write an answer as words, whatever its task."""
    facts: list[str] = []
    parts: list[str] = []
    is_whole = True
    for name, value in result.items():
        match name, value:
            case _, None:
                pass
            case "text", str():
                parts.insert(0, value)
            case "labels", [{"label": _, "score": _}, *_]:
                parts.append("\n".join(f"{_compact(v['label'])}: {v['score']}" for v in value))
            case "embeddings", [[*_], *_]:
                parts.append(_describe_vectors(value))
                is_whole = False
            case "outputs", [{"value": _}, *_]:
                parts += [f"{_compact(v.get('label'))}: {_compact(v['value'])}" for v in value]
            case _ if _is_fact(value):
                facts.append(f"{name}: {_compact(value)}")
            case _:
                parts.append(f"{name}: {_compact(value)}")
    return AnswerText("; ".join(facts), "\n".join(parts), is_whole)


def shorten_json(value: Any, max_bytes: int) -> Any:
    """Return JSON that fits: itself, or with its texts, lists and objects cut, alike at all levels.

    The shape stays, so that a program finds what it looks for where it looks.
    """
    if count_json_bytes(value) <= max_bytes:
        return value
    for max_chars, max_entries in _SIZE_STEPS:
        short = _shorten_values(value, max_chars, max_entries, _MAX_DEPTH)
        if count_json_bytes(short) <= max_bytes:
            return short
    return None


def shorten_members(members: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """Return an object that fits, with all of its names: its largest members are cut the most.

    Args:
        members: few names, such as those of a request.
        max_bytes: what the members take together.
    """
    short: dict[str, Any] = {}
    for name, value in sorted(members.items(), key=lambda member: count_json_bytes(member[1])):
        short[name] = shorten_json(value, max_bytes // (len(members) - len(short)))
        max_bytes -= count_json_bytes(short[name])
    return {name: short[name] for name in members}


def _compact(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_fact(value: Any) -> bool:
    return count_json_bytes(value) <= _MAX_FACT_BYTES and "\n" not in _compact(value)


def _describe_vectors(vectors: Sequence[Any]) -> str:
    lines = [f"{' by '.join(map(str, _shape(vectors)))} numbers."]
    for number, vector in enumerate(vectors[:_MAX_VECTORS]):
        numbers = _first_numbers(vector)
        first = ", ".join(map(_compact, numbers[:_NUMBERS_PER_VECTOR]))
        more = ", …" if len(numbers) > _NUMBERS_PER_VECTOR else ""
        lines.append(f"[{number}]: [{first}{more}]")
    if len(vectors) > _MAX_VECTORS:
        lines.append(f"… and {len(vectors) - _MAX_VECTORS} more")
    return "embeddings: " + "\n".join(lines)


def _first_numbers(vector: Sequence[Any]) -> Sequence[Any]:
    """Return a vector; of the vectors of all tokens of a text, that of the first."""
    match vector:
        case [[*first], *_]:
            return _first_numbers(first)
        case _:
            return vector


def _shape(value: Any) -> list[int]:
    match value:
        case [first, *_]:
            return [len(value), *_shape(first)]
        case _:
            return []


def _shorten_values(value: JsonValue, max_chars: int, max_entries: int, depth: int) -> JsonValue:
    if isinstance(value, str):
        return truncate(value, max_chars)
    if isinstance(value, list | dict) and depth == 0:
        return None
    if isinstance(value, list):
        return [
            _shorten_values(entry, max_chars, max_entries, depth - 1)
            for entry in value[:max_entries]
        ]
    if isinstance(value, dict):
        return {
            truncate(name, max_chars): _shorten_values(member, max_chars, max_entries, depth - 1)
            for name, member in list(value.items())[:max_entries]
        }
    return value
