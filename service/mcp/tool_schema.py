"""Short JSON schemas for the list of tools, which is in every conversation.

A client checks an answer against the schema that it was shown, perhaps by a release that is older
than the answer. So an enumeration is published as text, because a new word in it is no mistake. A
schema does not list which properties are required, and says in one word that a value may be null.
Only the tool about the details of a job publishes them, not each tool that answers with a job.

Of an argument a model has to know the name, the type and the meaning, which is said at the first
tool that takes it. The largest size of a text or of a list is left out, because a refusal names it
to those who exceed it. What can be a text or a number is published as a text, which can hold the
number.

A host hands the schema of the arguments on to the provider of its model, and some providers refuse
every tool because of one keyword in one of them. So a schema has no references, and either one type
or alternatives, with no keyword beside them. What these keywords cannot say is checked by the call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from service.views.base import DETAIL_MARKER

INPUT_KEYWORDS: Final = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items"),
        *("anyOf", "enum", "minimum", "maximum", "default", "description"),
    }
)
"""What a schema of arguments may say: Gemini's function declarations and OpenAI's take it."""
OUTPUT_KEYWORDS: Final = frozenset({"type", "properties", "items"})
"""What a schema of an answer may say: every client knows how to check it."""
_NULL_SCHEMA: Final = {"type": "null"}
_TEXT_SCHEMA: Final = {"type": "string"}
_NUMBER_SCHEMAS: Final = ({"type": "integer"}, {"type": "number"})
_ANY_TYPE: Final = ["string", "number", "boolean", "object", "array", "null"]
_LARGE_MAXIMUM: Final = 1_000_000
"""A maximum from here on is left out: no call comes near it."""
_PLAIN_MINIMUMS: Final = (0, 1)
"""Minimums that go without saying."""


def shorten_output_schema(schema: dict[str, Any], *, show_details: bool) -> dict[str, Any]:
    """Shorten the schema of an answer; a value that fits the long schema fits the short one."""
    return _shorten_output(_inline_references(schema), show_details=show_details)


def shorten_input_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Shorten the schema of arguments; the model still checks what the short schema leaves out."""
    # The description of a model is our own docstring, written for readers of the code.
    definitions = {
        name: _without(definition, "description")
        for name, definition in schema.get("$defs", {}).items()
    }
    whole = {**_without(schema, "description"), "$defs": definitions}
    return {**_shorten_input(_inline_references(whole)), "additionalProperties": False}


def drop_repeated_descriptions(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Describe an argument that several tools take, and what is in it, only at the first of them.

    Args:
        tools: tools as they are listed; they are left as they are.
    """
    described: set[str] = set()
    shortened: list[dict[str, Any]] = []
    for tool in tools:
        properties: dict[str, Any] = {}
        for name, argument in tool["inputSchema"]["properties"].items():
            first, *others = argument.get("anyOf", [argument])
            for keyword in ("description", "properties"):
                statement = json.dumps([name, keyword, first.get(keyword)])
                if statement in described:
                    first = _without(first, keyword)
                described.add(statement)
            properties[name] = {"anyOf": [first, *others]} if others else first
        schema = {**tool["inputSchema"], "properties": properties}
        shortened.append({**tool, "inputSchema": schema})
    return shortened


def _without(schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != keyword}


def _inline_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Write each definition at the place of each reference to it."""
    definitions: dict[str, Any] = schema.get("$defs", {})

    def inline(value: JsonValue) -> Any:
        if isinstance(value, list):
            return [inline(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(reference := value.get("$ref"), str):
            definition = definitions[reference.removeprefix("#/$defs/")]
            return inline({**definition, **_without(value, "$ref")})
        return {key: inline(inside) for key, inside in value.items()}

    inlined: dict[str, Any] = inline(_without(schema, "$defs"))
    return inlined


def _shorten_input(schema: Mapping[str, Any]) -> dict[str, Any]:
    if not schema.keys() & {"type", "anyOf"}:
        schema = {**schema, **_any_value_schema()}
    short = {key: value for key, value in schema.items() if key in INPUT_KEYWORDS}
    if "const" in schema:
        short["enum"] = [schema["const"]]
    if short.get("maximum", 0) >= _LARGE_MAXIMUM:
        del short["maximum"]
    if short.get("minimum") in _PLAIN_MINIMUMS:
        del short["minimum"]
    if "properties" in short:
        short["properties"] = {
            name: _shorten_input(inside) for name, inside in short["properties"].items()
        }
    if "items" in short:
        short["items"] = _shorten_input(short["items"])
    # What a mapping may hold goes without saying, and some providers refuse to be told.
    short.pop("additionalProperties", None)
    if short.get("default") is False:
        del short["default"]
    return _shorten_alternatives(short) if "anyOf" in short else short


def _any_value_schema() -> dict[str, Any]:
    """Describe any JSON value; a schema without a type, and a list without one, are refused."""
    scalars = [{"type": name} for name in ("string", "number", "boolean", "object")]
    return {"anyOf": [*scalars, {"type": "array", "items": {"type": "object"}}]}


def _shorten_alternatives(schema: dict[str, Any]) -> dict[str, Any]:
    """Publish an optional argument without null: a call leaves it out to say nothing.

    What is said of all alternatives is said in the first of them: Vertex AI refuses a keyword
    beside `anyOf`.
    """
    beside = _without(schema, "anyOf")
    shortened = [_shorten_input(member) for member in schema["anyOf"]]
    members = [inside for member in shortened for inside in member.get("anyOf", [member])]
    if beside.get("default", ...) is None and _NULL_SCHEMA in members:
        members.remove(_NULL_SCHEMA)
        del beside["default"]
    if all(member in (_TEXT_SCHEMA, *_NUMBER_SCHEMAS) for member in members):
        # What may be a text or a number is read from a text that holds the number.
        members = [member for member in members if member == _TEXT_SCHEMA] or members[-1:]
    first, *others = members
    return {"anyOf": [{**first, **beside}, *others]} if others else {**first, **beside}


def _shorten_output(schema: Mapping[str, Any], *, show_details: bool) -> dict[str, Any]:
    if "anyOf" in schema:
        return _merge_alternatives(
            [_shorten_output(member, show_details=show_details) for member in schema["anyOf"]]
        )
    short = {key: value for key, value in schema.items() if key in OUTPUT_KEYWORDS}
    short.setdefault("type", _ANY_TYPE)
    if short.get("properties"):
        short["properties"] = {
            name: _shorten_output(inside, show_details=show_details)
            for name, inside in short["properties"].items()
            if show_details or not inside.get(DETAIL_MARKER)
        }
    if short.get("items"):
        short["items"] = _shorten_output(short["items"], show_details=show_details)
    return {key: value for key, value in short.items() if value != {}}


def _merge_alternatives(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe several kinds of values at once, as a value with the properties of any of them."""
    merged: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    types: list[str] = []
    for member in members:
        for name, inside in member.get("properties", {}).items():
            known = properties.get(name, inside)
            properties[name] = inside if known == inside else _merge_alternatives([known, inside])
        types += [name for name in type_names(member) if name not in types]
        merged |= member
    if properties:
        merged["properties"] = properties
    return {**merged, "type": types if len(types) > 1 else types[0]}


def type_names(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows."""
    names: str | list[str] = schema["type"]
    return [names] if isinstance(names, str) else names
