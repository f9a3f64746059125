"""Tools that the suite calls, made as ours are made: our code answers for them."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from service.mcp.tool import McpTool
from tests.conformance.input_required_tools import INPUT_REQUIRED_TOOLS

PIXEL_PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""
SILENCE_WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAA="
"""A sound of no length."""
_PROGRESS_STEPS: Final = (0, 50, 100)
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FULL_SCHEMA: Final[dict[str, Any]] = {
    "$schema": _DIALECT,
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def test_simple_text() -> CallToolResult:
    """Say one sentence."""
    return _text_result("This is a simple text response for testing.")


async def test_image_content() -> CallToolResult:
    """Show a picture."""
    return CallToolResult(content=[_image_content()])


async def test_audio_content() -> CallToolResult:
    """Play a sound."""
    sound = AudioContent(type="audio", data=SILENCE_WAV, mime_type="audio/wav")
    return CallToolResult(content=[sound])


async def test_embedded_resource() -> CallToolResult:
    """Enclose a resource."""
    text = "This is an embedded resource content."
    return CallToolResult(
        content=[_embedded_resource("test://embedded-resource", "text/plain", text)]
    )


async def test_multiple_content_types() -> CallToolResult:
    """Say, show and enclose."""
    text = TextContent(type="text", text="Multiple content types test:")
    resource = _embedded_resource(
        "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
    )
    return CallToolResult(content=[text, _image_content(), resource])


async def test_error_handling() -> CallToolResult:
    """Fail, and say so to the model."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_progress(ctx: Context[Any]) -> CallToolResult:
    """Report progress to whoever asked for it."""
    for step in _PROGRESS_STEPS:
        await ctx.report_progress(step, 100)
    return _text_result("Done.")


async def test_logging_tool() -> CallToolResult:
    """Log nothing to the client, as no tool of ours does."""
    return _text_result("Done.")


async def test_custom_headers(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    """Take an argument that a proxy may read from a header."""
    return _text_result(region)


async def json_schema_2020_12_tool() -> CallToolResult:
    """Publish a schema of every keyword."""
    return _text_result("Done.")


PLAIN_TOOLS: Final[tuple[Callable[..., Any], ...]] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_tool_with_progress,
    test_logging_tool,
    test_custom_headers,
    json_schema_2020_12_tool,
)


def make_tools() -> list[McpTool]:
    """Make the tools; they belong to one server."""
    made = [McpTool.from_function(function) for function in (*PLAIN_TOOLS, *INPUT_REQUIRED_TOOLS)]
    contracts = [tool for tool in made if isinstance(tool, McpTool)]
    for tool in contracts:
        if tool.name == json_schema_2020_12_tool.__name__:
            tool.parameters = _FULL_SCHEMA
    return contracts


def _text_result(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


def _image_content() -> ImageContent:
    return ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png")


def _embedded_resource(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text)
    )
