"""Short JSON schemas for the list of tools, which is in every conversation.

A client checks an answer against the schema that it was shown, perhaps by a release that is older
than the answer. So an enumeration is published as text, because a new word in it is no mistake. A
schema does not list which properties are required, and says in one word that a value may be null.
Only the tool about the details of a job publishes them, not each tool that answers with a job.

Of an argument a model has to know the name, the type and the meaning. The largest size of a text or
of a list is left out: a refusal names it to those who exceed it.
"""

import json
from typing import Any, Final

from pydantic import JsonValue

from service.views.base import DETAIL_MARKER

_OMITTED_KEYS: Final = frozenset({"title", "description", "format"})
_SIZE_LIMIT_KEYS: Final = frozenset({"minLength", "maxLength", "maxProperties", "maxItems"})
_NULL_SCHEMA: Final = {"type": "null"}
_LARGE_MAXIMUM: Final = 1_000_000
"""A maximum from here on is left out: no call comes near it."""


def shorten_output_schema(schema: dict[str, Any], *, show_details: bool) -> dict[str, Any]:
    """Shorten the schema of an answer; a value that fits the long schema fits the short one."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    for object_schema in (schema, *definitions.values()):
        fields: dict[str, Any] = object_schema.get("properties", {})
        for name in [name for name, field in fields.items() if field.pop(DETAIL_MARKER, False)]:
            if not show_details:
                del fields[name]
    enum_schemas = {
        f"#/$defs/{name}": {"type": "string"}
        for name, definition in definitions.items()
        if "enum" in definition
    }
    short = _shorten_output(schema, enum_schemas)
    assert isinstance(short, dict)  # noqa: S101  # a schema stays one
    return _inline_single_use(_remove_unused_definitions(short))


def shorten_input_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Shorten the schema of arguments; the model still checks what the short schema leaves out."""
    # The description of a model is our own docstring, written for readers of the code.
    definitions = {
        name: _drop_description(definition) for name, definition in schema.get("$defs", {}).items()
    }
    whole: dict[str, Any] = {**_drop_description(schema), "$defs": definitions}
    short = _shorten_input(whole)
    assert isinstance(short, dict)  # noqa: S101  # a schema stays one
    return _inline_single_use(short)


def _drop_description(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _shorten_input(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_shorten_input(item) for item in value]
    if not isinstance(value, dict):
        return value
    short = {
        key: _shorten_input(inside)
        for key, inside in value.items()
        if not (key == "title" and isinstance(inside, str))
        and not (key in _SIZE_LIMIT_KEYS and isinstance(inside, int))
        and not (key == "maximum" and isinstance(inside, int | float) and inside >= _LARGE_MAXIMUM)
    }
    return _drop_null_option(short)


def _drop_null_option(schema: dict[str, Any]) -> dict[str, Any]:
    """Publish an optional argument without null: a call leaves it out to say nothing."""
    members: list[Any] = schema.get("anyOf", [])
    if not members:
        return schema
    if schema.get("default", ...) is None and _NULL_SCHEMA in members:
        members = [member for member in members if member != _NULL_SCHEMA]
        schema = {key: value for key, value in schema.items() if key != "default"}
    if {"type": "number"} in members:
        members = [member for member in members if member != {"type": "integer"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **(members[0] if len(members) == 1 else {"anyOf": members})}


def _shorten_output(value: JsonValue, enum_schemas: dict[str, Any]) -> JsonValue:
    if isinstance(value, list):
        return [_shorten_output(item, enum_schemas) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str) and reference in enum_schemas:
        return dict(enum_schemas[reference])
    short = {
        key: _shorten_output(inside, enum_schemas)
        for key, inside in value.items()
        if not (key in _OMITTED_KEYS and isinstance(inside, str))
        and not (key == "required" and isinstance(inside, list))
        and not (key == "default" and inside is None)
        and not (key == "properties" and not inside)
    }
    return _merge_null_type(short)


def _merge_null_type(schema: dict[str, Any]) -> dict[str, Any]:
    match schema.get("anyOf"):
        case [{"type": str(kind)}, {"type": "null"}]:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            return {**rest, **schema["anyOf"][0], "type": [kind, "null"]}
        case _:
            return schema


def _remove_unused_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = schema.get("$defs", {})
    while unused := [name for name in definitions if f'"#/$defs/{name}"' not in json.dumps(schema)]:
        for name in unused:
            del definitions[name]
    if definitions:
        return schema
    return {key: value for key, value in schema.items() if key != "$defs"}


def _inline_single_use(schema: dict[str, Any]) -> dict[str, Any]:
    """Write a definition with one reference at the place of that reference."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    text = json.dumps(schema)
    single_use = {
        reference: definitions[name]
        for name in definitions
        if text.count(reference := f"#/$defs/{name}") == 1
    }
    inlined = _replace_references(schema, single_use)
    assert isinstance(inlined, dict)  # noqa: S101  # a schema stays one
    return _remove_unused_definitions(inlined)


def _replace_references(value: JsonValue, single_use: dict[str, Any]) -> JsonValue:
    if isinstance(value, list):
        return [_replace_references(item, single_use) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str) and reference in single_use:
        siblings = {key: inside for key, inside in value.items() if key != "$ref"}
        return _replace_references({**single_use[reference], **siblings}, single_use)
    return {key: _replace_references(inside, single_use) for key, inside in value.items()}
