"""The resources, prompts and completions the suite asks for."""

import base64
import json

from mcp.server import MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)

from service.context import App
from tests.conformance.asking import Ctx, filled_in, form
from tests.conformance.tools import PIXEL


def furnish(server: MCPServer[App]) -> None:
    """Give a server all of it."""
    _add_resources(server)
    _add_prompts(server)
    server.completion()(_complete)  # type: ignore[no-untyped-call]  # so it is in mcp 2.3.0


def _add_resources(server: MCPServer[App]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """Read a text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """Read a picture."""
        return base64.b64decode(PIXEL)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002  # the name is the suite's
        """Read one of many."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[App]) -> None:
    @server.prompt()
    async def test_simple_prompt() -> str:
        """Say one sentence."""
        return "This is a simple prompt for testing."

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Say back what was given."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
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

    @server.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """Show a picture."""
        return [
            UserMessage(ImageContent(type="image", data=PIXEL, mime_type="image/png")),
            UserMessage("Please analyze the image above."),
        ]

    @server.prompt()
    async def test_input_required_result_prompt(
        ctx: Ctx,
    ) -> list[UserMessage] | InputRequiredResult:
        """Ask for what the prompt is about."""
        context = filled_in(ctx, "user_context", "context")
        if context is None:
            question = form("What context should the prompt use?", "context")
            return InputRequiredResult(input_requests={"user_context": question})
        return [UserMessage(TextContent(type="text", text=f"The context is {context}."))]


async def _complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion:
    words = [word for word in ("test", "tests") if word.startswith(argument.value)]
    return Completion(values=words, total=len(words), has_more=False)
