"""The resources and prompts that the suite asks for."""

import base64
import json

from mcp.server import MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    TextContent,
    TextResourceContents,
)

from service.mcp.prompts import McpPrompt
from service.runtime.context import App
from tests.conformance.input_required_tools import ToolContext, elicit_form, read_form_field
from tests.conformance.plain_tools import PIXEL_PNG


def add_resources(server: MCPServer[App]) -> None:
    """Give a server the resources."""

    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """Read a text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """Read a picture."""
        return base64.b64decode(PIXEL_PNG)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002  # the name is the suite's
        """Read one of many."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def make_prompts() -> list[McpPrompt]:
    """Make the prompts."""

    async def test_simple_prompt() -> str:
        """Say one sentence."""
        return "This is a simple prompt for testing."

    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Say back what was given."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    async def test_prompt_with_embedded_resource(
        resourceUri: str,  # noqa: N803  # the name is the suite's
    ) -> list[UserMessage]:
        """Enclose a resource."""
        enclosed = TextResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        return [
            UserMessage(EmbeddedResource(type="resource", resource=enclosed)),
            UserMessage("Please process the embedded resource above."),
        ]

    async def test_prompt_with_image() -> list[UserMessage]:
        """Show a picture."""
        return [
            UserMessage(ImageContent(type="image", data=PIXEL_PNG, mime_type="image/png")),
            UserMessage("Please analyze the image above."),
        ]

    async def test_input_required_result_prompt(
        ctx: ToolContext,
    ) -> list[UserMessage] | InputRequiredResult:
        """Ask for what the prompt is about."""
        context = read_form_field(ctx, "user_context", "context")
        if context is None:
            question = elicit_form("What context should the prompt use?", "context")
            return InputRequiredResult(input_requests={"user_context": question})
        return [UserMessage(TextContent(type="text", text=f"The context is {context}."))]

    functions = (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
        test_input_required_result_prompt,
    )
    made = [McpPrompt.from_function(function) for function in functions]
    return [prompt for prompt in made if isinstance(prompt, McpPrompt)]
