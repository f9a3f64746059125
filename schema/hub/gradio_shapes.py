"""The shape of a value that a Gradio app takes, and where in it files are.

An app describes a value by a JSON schema. A file is one kind of object in it, beside texts that are
no files: the message of a chat has both.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from pydantic import JsonValue

from schema.specs.inputs.file_argument import (
    FILE_ARGUMENT_EXAMPLES,
    expect_file_argument,
    parse_file_argument,
)

_FILE_MARK: Final = "gradio.FileData"
"""The constant in the member `meta` of a file."""
_MAX_REFERENCES: Final = 20
"""How many references may follow each other; a schema that refers to itself alone has no end."""

_Schema = Mapping[str, Any]


class ValueShape:
    """The JSON schema of one value."""

    def __init__(self, schema: _Schema) -> None:
        self._schema = schema
        self._definitions: _Schema = schema.get("$defs", {})

    @property
    def is_file(self) -> bool:
        """Whether the value is a file."""
        return any(self._is_file(each) for each in self._alternatives([self._schema]))

    @property
    def is_list_of_files(self) -> bool:
        """Whether the value is a list, and each of its items a file."""
        items = [
            each["items"]
            for each in self._alternatives([self._schema])
            if isinstance(each.get("items"), Mapping)
        ]
        return any(self._is_file(each) for each in self._alternatives(items))

    @property
    def has_files(self) -> bool:
        """Whether the value is a file, or can contain one."""
        return _FILE_MARK in json.dumps(self._schema)

    def parse_files(self, value: JsonValue) -> Any:
        """Return a value with each file in it as a `FileArgument`.

        Raises:
            ValueError: where a file has to be is something else.
        """
        return self._replace([self._schema], value, _parse_file)

    def show_file_arguments(self, example: JsonValue) -> Any:
        """Return the example of an app, with its files in the form that a caller passes."""
        return self._replace([self._schema], example, _show_file)

    def _replace(
        self,
        schemas: list[_Schema],
        value: JsonValue,
        replace_file: Callable[[JsonValue, bool], Any],
    ) -> Any:
        alternatives = list(self._alternatives(schemas))
        others = [each for each in alternatives if not self._is_file(each)]
        can_be_other = any(_allows(each, value) for each in others)
        is_text = isinstance(value, str) and can_be_other
        if len(others) < len(alternatives) and value is not None and not is_text:
            file = replace_file(value, can_be_other)
            if file is not None:
                return file
        if isinstance(value, list):
            return [
                self._replace(_item_schemas(others, index), item, replace_file)
                for index, item in enumerate(value)
            ]
        if isinstance(value, dict):
            return {
                name: self._replace(_member_schemas(others, name), member, replace_file)
                for name, member in value.items()
            }
        return value

    def _is_file(self, schema: _Schema) -> bool:
        meta = schema.get("properties", {}).get("meta", {})
        return any(_FILE_MARK in json.dumps(each) for each in self._alternatives([meta]))

    def _alternatives(self, schemas: list[_Schema], depth: int = 0) -> Iterator[_Schema]:
        """Follow references, and list what the value may be instead."""
        for schema in schemas if depth < _MAX_REFERENCES else []:
            nested = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
            reference = str(schema.get("$ref", ""))
            if reference:
                nested.append(self._definitions.get(reference.rpartition("/")[2], {}))
            if nested:
                yield from self._alternatives(nested, depth + 1)
            else:
                yield schema


def _parse_file(value: JsonValue, can_be_other: bool) -> Any:  # noqa: FBT001  # see `_replace`
    return parse_file_argument(value) if can_be_other else expect_file_argument(value)


def _show_file(example: JsonValue, can_be_other: bool) -> Any:  # noqa: FBT001  # see `_replace`
    is_file = not can_be_other or (isinstance(example, dict) and "path" in example)
    return FILE_ARGUMENT_EXAMPLES[0] if is_file else None


def _allows(schema: _Schema, value: JsonValue) -> bool:
    """Tell whether a schema allows the type of a value; one that names no type allows each."""
    match value:
        case str():
            name = "string"
        case list():
            name = "array"
        case dict():
            name = "object"
        case _:
            name = ""
    return bool(schema.get("type", name) == name)


def _item_schemas(schemas: list[_Schema], index: int) -> list[_Schema]:
    items: list[_Schema] = []
    for schema in schemas:
        prefix = cast("list[_Schema]", schema.get("prefixItems", []))
        item = prefix[index] if index < len(prefix) else schema.get("items")
        if isinstance(item, Mapping):
            items.append(cast("_Schema", item))
    return items


def _member_schemas(schemas: list[_Schema], name: str) -> list[_Schema]:
    members: list[_Schema] = []
    for schema in schemas:
        member = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if isinstance(member, Mapping):
            members.append(cast("_Schema", member))
    return members
