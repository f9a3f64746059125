"""The tools the suite calls, made as ours are made: what answers for them is our code."""

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

from service.mcp.tool import Contract
from tests.conformance.asking import ASKING

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""
SILENCE: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAA="
"""A sound of no length."""
_STEPS: Final = (0, 50, 100)
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_STRICT: Final[dict[str, Any]] = {
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
    return _saying("This is a simple text response for testing.")


async def test_image_content() -> CallToolResult:
    """Show a picture."""
    return CallToolResult(content=[_picture()])


async def test_audio_content() -> CallToolResult:
    """Play a sound."""
    sound = AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")
    return CallToolResult(content=[sound])


async def test_embedded_resource() -> CallToolResult:
    """Enclose a resource."""
    text = "This is an embedded resource content."
    return CallToolResult(content=[_enclosed("test://embedded-resource", "text/plain", text)])


async def test_multiple_content_types() -> CallToolResult:
    """Say, show and enclose."""
    said = TextContent(type="text", text="Multiple content types test:")
    enclosed = _enclosed(
        "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
    )
    return CallToolResult(content=[said, _picture(), enclosed])


async def test_error_handling() -> CallToolResult:
    """Fail, and say so to the model."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_progress(ctx: Context[Any]) -> CallToolResult:
    """Report progress to whoever asked for it."""
    for step in _STEPS:
        await ctx.report_progress(step, 100)
    return _saying("Done.")


async def test_logging_tool() -> CallToolResult:
    """Log nothing to the client, as no tool of ours does."""
    return _saying("Done.")


async def test_custom_headers(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    """Take an argument that a proxy may read from a header."""
    return _saying(region)


async def json_schema_2020_12_tool() -> CallToolResult:
    """Publish a schema of every keyword."""
    return _saying("Done.")


PLAIN: Final[tuple[Callable[..., Any], ...]] = (
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


def tools() -> list[Contract]:
    """Make the tools; they belong to one server."""
    made = [Contract.from_function(function) for function in (*PLAIN, *ASKING)]
    contracts = [tool for tool in made if isinstance(tool, Contract)]
    for tool in contracts:
        if tool.name == json_schema_2020_12_tool.__name__:
            tool.parameters = _STRICT
    return contracts


def _saying(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


def _picture() -> ImageContent:
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


def _enclosed(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text)
    )
