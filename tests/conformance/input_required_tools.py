"""The tools of the suite that ask the client something before they answer (2026-07-28)."""

from collections.abc import Callable
from typing import Any, Final

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

ToolAnswer = CallToolResult | InputRequiredResult
ToolContext = Context[Any]


def elicit_form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    """Ask the person to fill in one field."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: {"type": kind}},
        "required": [field],
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def read_form_field(ctx: ToolContext, key: str, field: str) -> str | None:
    """Return what the person filled in, if they did."""
    match (ctx.input_responses or {}).get(key):
        case ElicitResult(action="accept", content=dict() as content) if field in content:
            return str(content[field])
        case _:
            return None


async def test_missing_capability(ctx: ToolContext) -> CallToolResult:
    """Refuse a client that cannot sample."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs sampling.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return text_result("The client can sample.")


async def test_streaming_elicitation() -> ToolAnswer:
    """Ask for a confirmation."""
    return _require_input(confirm=elicit_form("Please confirm", "ok", "boolean"))


async def test_input_required_result_elicitation(ctx: ToolContext) -> ToolAnswer:
    """Ask for a name, and greet."""
    name = read_form_field(ctx, "user_name", "name")
    if name is None:
        return _require_input(user_name=elicit_form("What is your name?", "name"))
    return text_result(f"Hello, {name}!")


async def test_input_required_result_sampling(ctx: ToolContext) -> ToolAnswer:
    """Ask the client's model."""
    match (ctx.input_responses or {}).get("capital_question"):
        case CreateMessageResult(content=TextContent(text=text)):
            return text_result(text)
        case _:
            return _require_input(
                capital_question=_request_sampling("What is the capital of France?")
            )


async def test_input_required_result_list_roots(ctx: ToolContext) -> ToolAnswer:
    """Ask for the client's roots."""
    match (ctx.input_responses or {}).get("client_roots"):
        case ListRootsResult(roots=roots):
            return text_result(", ".join(str(root.uri) for root in roots))
        case _:
            return _require_input(client_roots=ListRootsRequest())


async def test_input_required_result_request_state(ctx: ToolContext) -> ToolAnswer:
    """Get back the state that was sealed into the first answer."""
    if ctx.request_state == "asked" and read_form_field(ctx, "confirm", "ok") is not None:
        return text_result("state-ok")
    return _require_input("asked", confirm=elicit_form("Please confirm", "ok", "boolean"))


async def test_input_required_result_tampered_state(ctx: ToolContext) -> ToolAnswer:
    """Never see a state that is not the one which was sealed."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: ToolContext) -> ToolAnswer:
    """Ask three things at once."""
    questions: dict[str, InputRequest] = {
        "user_name": elicit_form("What is your name?", "name"),
        "greeting": _request_sampling("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if ctx.request_state == "asked" and questions.keys() <= (ctx.input_responses or {}).keys():
        return text_result("Thank you for all three.")
    return _require_input("asked", **questions)


async def test_input_required_result_multi_round(ctx: ToolContext) -> ToolAnswer:
    """Ask a second thing after the first."""
    name, color = read_form_field(ctx, "step1", "name"), read_form_field(ctx, "step2", "color")
    if ctx.request_state == "named" and color is not None:
        return text_result(f"Their color is {color}.")
    if ctx.request_state == "started" and name is not None:
        return _require_input(
            "named", step2=elicit_form("Step 2: What is your favorite color?", "color")
        )
    return _require_input("started", step1=elicit_form("Step 1: What is your name?", "name"))


async def test_input_required_result_capabilities(ctx: ToolContext) -> ToolAnswer:
    """Ask only what the client says it can answer."""
    able = ctx.client_capabilities
    questions: dict[str, InputRequest] = {}
    if able is not None and able.elicitation is not None:
        questions["user_name"] = elicit_form("What is your name?", "name")
    if able is not None and able.sampling is not None:
        questions["greeting"] = _request_sampling("Generate a greeting")
    return _require_input(**questions) if questions else text_result("There is nothing to ask you.")


INPUT_REQUIRED_TOOLS: Final[tuple[Callable[..., Any], ...]] = (
    test_missing_capability,
    test_streaming_elicitation,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
)


def _require_input(state: str | None = None, /, **questions: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=questions, request_state=state)


def _request_sampling(question: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=question))
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=[message], max_tokens=100)
    )


def text_result(text: str) -> CallToolResult:
    """Answer with one sentence."""
    return CallToolResult(content=[TextContent(type="text", text=text)])
