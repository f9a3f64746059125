"""The schemas of answers are short, and true."""

from typing import Any

import pytest

from service.jobs.dry_run import DryRunView
from service.mcp.tool_schema import (
    drop_repeated_descriptions,
    shorten_input_schema,
    shorten_output_schema,
)
from service.mcp.tools import jobs, launch_job
from service.views.base import DETAIL_MARKER
from service.views.jobs import JobView
from tests.support.mcp.client import call_for_result, open_mcp_client


def shorten_schema(**properties: Any) -> dict[str, Any]:
    schema = {"$defs": {"State": {"enum": ["queued"], "type": "string"}}, "type": "object"}
    full_schema = schema | {"properties": properties, "required": list(properties)}
    shape: dict[str, Any] = shorten_output_schema(full_schema, show_details=False)
    return shape


@pytest.mark.parametrize(
    ("long", "expected"),
    [
        ({"$ref": "#/$defs/State"}, {"type": "string"}),
        (
            {"anyOf": [{"$ref": "#/$defs/State"}, {"type": "null"}], "title": "State"},
            {"type": ["string", "null"]},
        ),
        (
            {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "null"}]},
            {"items": {"type": "string"}, "type": ["array", "null"]},
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            {"type": ["string", "integer"]},
        ),
        ({"format": "date-time", "type": "string"}, {"type": "string"}),
    ],
)
def test_a_shape_is_said_in_few_words(long: dict[str, Any], expected: dict[str, Any]) -> None:
    """A word that is new in a later release is no mistake to a client of this one."""
    assert shorten_schema(state=long, elsewhere=long | {DETAIL_MARKER: True}) == {
        "properties": {"state": expected},
        "type": "object",
    }


def test_a_property_may_be_called_what_a_schema_calls_its_own() -> None:
    """A job has a title, and a title is noise in a schema."""
    assert shorten_schema(title={"title": "Title", "type": "string"})["properties"] == {
        "title": {"type": "string"}
    }


@pytest.mark.parametrize(
    ("long", "expected"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 9}, {"type": "number"}),
        ({"const": "off", "type": "string"}, {"enum": ["off"], "type": "string"}),
        ({"type": "string", "pattern": "^a", "format": "uri"}, {"type": "string"}),
        ({"$ref": "#/$defs/Size"}, {"type": "integer", "minimum": 2}),
        (
            {"items": {"$ref": "#/$defs/Size"}, "type": "array"},
            {"items": {"type": "integer", "minimum": 2}, "type": "array"},
        ),
        ({"type": "integer", "minimum": 1, "maximum": 2**53}, {"type": "integer"}),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, {"type": "string"}),
        (
            {"anyOf": [{"type": "number"}, {"const": "off", "type": "string"}]},
            {"anyOf": [{"type": "number"}, {"enum": ["off"], "type": "string"}]},
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "object"}], "description": "Of all."},
            {"anyOf": [{"type": "string", "description": "Of all."}, {"type": "object"}]},
        ),
        (
            {"anyOf": [{"anyOf": [{"type": "string"}, {"type": "object"}]}, {"type": "null"}]}
            | {"default": None, "description": "Of all."},
            {"anyOf": [{"type": "string", "description": "Of all."}, {"type": "object"}]},
        ),
        ({"additionalProperties": {"type": "string"}, "type": "object"}, {"type": "object"}),
    ],
)
def test_an_argument_is_published_in_words_that_every_provider_takes(
    long: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Gemini refuses a whole list of tools over one exclusiveMinimum."""
    definitions = {"Size": {"type": "integer", "minimum": 2, "title": "Size"}}

    short = shorten_input_schema(
        {"$defs": definitions, "properties": {"argument": long}, "type": "object"}
    )

    assert short["properties"] == {"argument": expected}


def test_an_argument_of_several_tools_is_described_at_the_first_of_them() -> None:
    """The same words in each of them are in every conversation."""
    inside = {"properties": {"flavor": {"type": "string"}}, "type": "object"}
    key = {"description": "Finds it again.", "type": "string"}
    other = {"description": "Of a schedule.", "type": "string"}

    def list_tool(name: str, **properties: Any) -> dict[str, Any]:
        return {"name": name, "inputSchema": {"properties": properties, "type": "object"}}

    listed = [
        list_tool("first", key=key, defaults=inside),
        list_tool("second", key=key, defaults=inside | {"description": "Changed."}),
        list_tool("third", key=other, either={"anyOf": [key, {"type": "object"}]}),
    ]
    shown = drop_repeated_descriptions(listed)

    assert [tool["inputSchema"]["properties"] for tool in shown] == [
        {"key": key, "defaults": inside},
        {"key": {"type": "string"}, "defaults": {"description": "Changed.", "type": "object"}},
        {"key": other, "either": {"anyOf": [key, {"type": "object"}]}},
    ]
    assert listed[1]["inputSchema"]["properties"]["key"] == key


def test_an_argument_of_any_kind_is_published_with_types() -> None:
    """Gemini's own client drops a tool with an argument that has no type."""
    short = shorten_input_schema({"properties": {"inputs": {"title": "Inputs"}}, "type": "object"})

    alternatives = short["properties"]["inputs"]["anyOf"]
    assert [each["type"] for each in alternatives] == [
        *("string", "number", "boolean", "object", "array")
    ]
    assert all(each["type"] != "array" or each["items"] for each in alternatives)


def test_what_is_told_elsewhere_is_told_there() -> None:
    """A field that no schema has would be a secret of ours."""
    [status] = [each for each in jobs.build_tools() if each.name == "job_status"]
    [launching] = launch_job.build_tools("30d")

    status_fields = (status.output_schema or {})["properties"]["jobs"]["items"]["properties"]
    here = (launching.output_schema or {})["properties"]

    assert status_fields.keys() == JobView.model_fields.keys()
    assert (
        {"job_id", "state", "next_step", "possible_duplicate_of"}
        <= here.keys()
        < {*status_fields, "possible_duplicate_of", "notes", *DryRunView.model_fields}
    )


async def test_an_answer_has_more_than_its_short_schema_and_fits_it(service_url: str) -> None:
    """The SDK's client checks an answer against the schema it listed."""
    async with open_mcp_client(service_url) as client:
        await client.list_tools()
        answer = await client.call_tool("launch_job", {"image": "i", "command": "true"})
    view = answer.structured_content
    [status] = (await call_for_result(service_url, "job_status", job_ids=view["job_id"]))["jobs"]

    assert view.keys() > status.keys()
