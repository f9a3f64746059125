"""What the arguments of every tool have in common: null, JSON in texts, numbers that are none."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pydantic import JsonValue

from schema.db.database import Database
from service.app import build_all_tools
from service.mcp.tool import McpTool
from tests.support.jobs.retention import keep_for_a_month
from tests.support.mcp.client import answer_text, open_mcp_client, read_refusal
from tests.support.mcp.valid_arguments import UNKNOWN_JOB_ID, complete_arguments


@pytest.mark.parametrize("tool", build_all_tools(keep_for_a_month), ids=lambda tool: tool.name)
def test_an_optional_argument_that_is_null_is_absent(tool: McpTool) -> None:
    """Some clients fill in every argument that a schema names."""
    fields = tool.fn_metadata.arg_model.model_fields
    nulls = {name: None for name, field in fields.items() if not field.is_required()}
    valid_arguments = complete_arguments(tool.name, fields.keys() - nulls.keys())

    assert tool.fn_metadata.validate_arguments(
        nulls | valid_arguments
    ) == tool.fn_metadata.validate_arguments(valid_arguments)


def find_integer_schemas(schema: JsonValue) -> Iterator[dict[str, Any]]:
    """Find every part of a schema that takes an integer."""
    if isinstance(schema, dict) and schema.get("type") == "integer":
        yield schema
    parts = schema.values() if isinstance(schema, dict) else schema
    for part in parts if isinstance(parts, Iterable) and not isinstance(parts, str) else ():
        yield from find_integer_schemas(part)


def test_every_integer_argument_has_bounds_that_postgres_has_too() -> None:
    """A larger one would be refused by the database, as a crash."""
    takes_seconds = {"timeout"}
    for tool in build_all_tools(keep_for_a_month):
        arguments = tool.fn_metadata.arg_model.model_json_schema()["properties"]
        for name in arguments.keys() - takes_seconds:
            for schema in find_integer_schemas(arguments[name]):
                assert schema["minimum"] >= 0, (tool.name, name)
                assert schema["maximum"] < 2**63, (tool.name, name)


BAD_NUMBERS: list[tuple[str, dict[str, Any]]] = [
    ("list_hardware", {"max_price": "inf"}),
    ("list_hardware", {"max_price": "1e999"}),
    ("list_hardware", {"max_price": "NaN"}),
    ("create_workspace", {"name": "w", "budget_usd": "Infinity"}),
    ("launch_job", {"command": "true", "max_cost_usd": "nan"}),
    ("wait_for_jobs", {"job_ids": UNKNOWN_JOB_ID, "since_version": 2**63}),
    ("wait_for_jobs", {"job_ids": UNKNOWN_JOB_ID, "since_version": {UNKNOWN_JOB_ID: 2**63}}),
]


async def test_a_number_that_nothing_can_be_counted_with_is_refused(service_url: str) -> None:
    """pydantic reads the text of an infinity as a number, and integers of any size."""
    async with open_mcp_client(service_url) as client:
        for tool, arguments in BAD_NUMBERS:
            answer = await client.call_tool(tool, arguments)
            assert read_refusal(answer)["code"] == "Invalid", arguments


JSON_TEXTS = ['["pear", "apple"]', "[1]", '{"a": 1}', "null", "true", "3", '[{"a": 1}]', "[]"]


@pytest.mark.parametrize("task", ["chat-completion", "feature-extraction", "text-to-image"])
async def test_a_text_that_is_json_stays_a_text(
    service_url: str, database: Database, task: str
) -> None:
    """The SDK would unpack it, and another text than the caller's would be sent."""
    async with open_mcp_client(service_url) as client:
        for text in JSON_TEXTS:
            arguments = {"model": "m/m", "inputs": text, "task": task}
            answer = await client.call_tool("launch_inference", arguments)
            assert not answer.is_error, answer_text(answer)

    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT spec FROM job_payload ORDER BY job_id")
    is_chat = task == "chat-completion"
    assert [row["spec"]["inputs"] for row in rows] == [
        [{"role": "user", "content": text}] if is_chat else text for text in JSON_TEXTS
    ]


EMPTY_FILTERS: list[tuple[str, dict[str, Any]]] = [
    *(("list_jobs", {name: []}) for name in ("state", "labels")),
    ("list_jobs", {"labels": {}}),
    *(("list_jobs", {name: ""}) for name in ("state", "kind", "since", "until", "cursor")),
    ("list_workspaces", {"cursor": ""}),
    ("list_schedules", {"cursor": ""}),
]


async def test_an_empty_filter_is_no_filter(service_url: str) -> None:
    """Some clients write it so; a list of nothing would look like an answer."""
    async with open_mcp_client(service_url) as client:
        await client.call_tool("launch_job", {"command": "true"})
        await client.call_tool("create_workspace", {"name": "w"})
        for tool, arguments in EMPTY_FILTERS:
            filtered = await client.call_tool(tool, arguments)
            everything = await client.call_tool(tool, {})
            assert answer_text(filtered) == answer_text(everything), arguments
