"""What every client loads before its first call: the list of tools."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schema.common.durations import format_duration
from schema.specs.hub_job import HubJobSpec
from schema.specs.validation_errors import validate_spec
from service.mcp.tool_schema import INPUT_KEYWORDS, OUTPUT_KEYWORDS, type_names
from service.views.jobs import JobView
from tests.support.mcp.client import call_for_result, post_message

CALLER_ARGUMENTS = {"subject", "subject_id", "user", "user_id", "caller", "token", "app", "ctx"}


JSON_TYPES: dict[str, type[object] | tuple[type[object], ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def walk_schemas(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and all the schemas inside of it, each with its place."""
    yield path, schema
    inside = {f".{name}": value for name, value in schema.get("properties", {}).items()}
    inside |= {f"[{place}]": value for place, value in enumerate(schema.get("anyOf", []))}
    for keyword in ("items", "additionalProperties"):
        if isinstance(value := schema.get(keyword), dict):
            inside[f" {keyword}"] = value
    for name, value in inside.items():
        yield from walk_schemas(value, path + name)


@pytest.fixture
async def tools(service_url: str) -> dict[str, dict[str, Any]]:
    """The tools as they are on the wire."""
    listed = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    return {tool["name"]: tool for tool in listed}


async def test_the_tools_are_these(tools: dict[str, dict[str, Any]]) -> None:
    """Names are a contract; a model's habits and people's permissions hang on them."""
    assert list(tools) == [
        "launch_job",
        "launch_inference",
        "launch_space_call",
        "job_status",
        "list_jobs",
        "job_logs",
        "job_result",
        "adopt_job",
        "cancel_job",
        "wait_for_jobs",
        "retry_job",
        "create_workspace",
        "workspace_status",
        "list_workspaces",
        "update_workspace",
        "archive_workspace",
        "rotate_webhook_secret",
        "create_schedule",
        "list_schedules",
        "update_schedule",
        "delete_schedule",
        "create_upload",
        "list_hardware",
        "whoami",
        "spending",
    ]


async def test_no_tool_lets_a_caller_say_who_they_are(tools: dict[str, dict[str, Any]]) -> None:
    """Authority comes from the verified token, and from nowhere else."""
    for tool in tools.values():
        assert not CALLER_ARGUMENTS & set(tool["inputSchema"]["properties"]), tool["name"]


async def test_every_tool_publishes_what_it_takes_and_shows(
    tools: dict[str, dict[str, Any]],
) -> None:
    """Programs rely on the shape, models on the words, hosts on the hints."""
    for tool in tools.values():
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["type"] == "object"
        assert tool["description"]
        assert "{" not in tool["description"]
        assert tool["annotations"]["readOnlyHint"] in (True, False)


async def test_what_changes_things_is_marked(tools: dict[str, dict[str, Any]]) -> None:
    """Hosts ask their person before a destructive call, and only then."""
    writing = {name for name, tool in tools.items() if not tool["annotations"]["readOnlyHint"]}
    destructive = {
        name for name, tool in tools.items() if tool["annotations"].get("destructiveHint")
    }

    assert writing == {
        *("launch_job", "launch_inference", "launch_space_call"),
        *("retry_job", "adopt_job", "cancel_job"),
        *("create_workspace", "update_workspace", "archive_workspace", "rotate_webhook_secret"),
        *("create_schedule", "update_schedule", "delete_schedule"),
        "create_upload",
    }
    assert destructive == {"cancel_job", "delete_schedule"}


async def test_a_launch_says_how_long_what_it_leaves_is_kept(
    tools: dict[str, dict[str, Any]],
) -> None:
    """The retention of this deployment, not of some other."""
    assert "kept for 30d" in tools["launch_job"]["description"]


async def test_what_an_argument_is_if_it_is_left_out_is_said_where_it_is_described(
    tools: dict[str, dict[str, Any]],
) -> None:
    """What a model finds there, it need not guess: how long, where from, in which form."""
    job, inference, space = (
        tools[name]["inputSchema"]["properties"]
        for name in ("launch_job", "launch_inference", "launch_space_call")
    )
    job_timeout = validate_spec(HubJobSpec, command=["true"]).timeout

    assert f"else {format_duration(job_timeout)}." in json.dumps(job["timeout"])
    for call in (inference, space):
        assert '"default": "10m"' in json.dumps(call["timeout"])
    assert "hf://buckets/OWNER/holdfast/[WORKSPACE_ID/]JOB_ID:/in" in job["volumes"]["description"]
    assert "response_format" in inference["parameters"]["description"]


async def test_an_argument_that_may_be_left_out_is_not_shown_as_null(
    tools: dict[str, dict[str, Any]],
) -> None:
    """One way to say nothing is enough; a model need not choose between two."""
    for tool in tools.values():
        for argument in tool["inputSchema"]["properties"].values():
            assert '"null"' not in json.dumps(argument), tool["name"]


async def test_arguments_are_published_in_keywords_that_every_provider_takes(
    tools: dict[str, dict[str, Any]],
) -> None:
    """A provider refuses every tool because of one keyword that it does not know in one of them."""
    for tool in tools.values():
        for path, schema in walk_schemas(tool["inputSchema"], tool["name"]):
            assert schema.keys() <= INPUT_KEYWORDS, path
            assert ("type" in schema) != (schema.keys() == {"anyOf"}), path
            assert schema.get("type", "object") in JSON_TYPES, path
            assert (schema.get("type") == "array") == ("items" in schema), path
            assert "enum" not in schema or schema["type"] == "string", path
            if "default" in schema:
                assert isinstance(schema["default"], JSON_TYPES[schema["type"]]), path
            assert set(schema.get("required", [])) <= schema.get("properties", {}).keys(), path


async def test_answers_are_published_in_keywords_that_every_client_checks(
    tools: dict[str, dict[str, Any]],
) -> None:
    """A client that cannot read the schema cannot take the answer."""
    for tool in tools.values():
        for path, schema in walk_schemas(tool["outputSchema"], tool["name"]):
            assert schema.keys() <= OUTPUT_KEYWORDS, path
            assert set(type_names(schema)) <= {*JSON_TYPES, "null"}, path


async def test_null_is_taken_for_left_out_all_the_same(service_url: str) -> None:
    """Programs that fill in every argument send it."""
    assert await call_for_result(service_url, "list_jobs", workspace_id=None)


async def test_one_tool_publishes_every_field_of_a_job(tools: dict[str, dict[str, Any]]) -> None:
    """The others name what is to be acted on, and show the rest all the same."""
    whole, brief = (
        tools[name]["outputSchema"]["properties"]["jobs"]["items"]["properties"]
        for name in ("job_status", "list_jobs")
    )

    assert {"job_id", "state", "next_step", "poll_after_seconds"} <= brief.keys() < whole.keys()
    assert set(JobView.model_fields) == whole.keys()


async def test_the_list_of_tools_stays_small(tools: dict[str, dict[str, Any]]) -> None:
    """It is in the context of every conversation, used or not."""
    assert len(json.dumps(list(tools.values()), separators=(",", ":"))) <= 34_000
