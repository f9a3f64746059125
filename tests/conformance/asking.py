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

Answer = CallToolResult | InputRequiredResult
Ctx = Context[Any]


def form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    """Ask the person to fill in one field."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: {"type": kind}},
        "required": [field],
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def filled_in(ctx: Ctx, key: str, field: str) -> str | None:
    """Return what the person filled in, if they did."""
    match (ctx.input_responses or {}).get(key):
        case ElicitResult(action="accept", content=dict() as content) if field in content:
            return str(content[field])
        case _:
            return None


async def test_missing_capability(ctx: Ctx) -> CallToolResult:
    """Refuse a client that cannot sample."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs sampling.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return saying("The client can sample.")


async def test_streaming_elicitation() -> Answer:
    """Ask for a confirmation."""
    return _asking(confirm=form("Please confirm", "ok", "boolean"))


async def test_input_required_result_elicitation(ctx: Ctx) -> Answer:
    """Ask for a name, and greet."""
    name = filled_in(ctx, "user_name", "name")
    if name is None:
        return _asking(user_name=form("What is your name?", "name"))
    return saying(f"Hello, {name}!")


async def test_input_required_result_sampling(ctx: Ctx) -> Answer:
    """Ask the client's model."""
    match (ctx.input_responses or {}).get("capital_question"):
        case CreateMessageResult(content=TextContent(text=text)):
            return saying(text)
        case _:
            return _asking(capital_question=_sample("What is the capital of France?"))


async def test_input_required_result_list_roots(ctx: Ctx) -> Answer:
    """Ask for the client's roots."""
    match (ctx.input_responses or {}).get("client_roots"):
        case ListRootsResult(roots=roots):
            return saying(", ".join(str(root.uri) for root in roots))
        case _:
            return _asking(client_roots=ListRootsRequest())


async def test_input_required_result_request_state(ctx: Ctx) -> Answer:
    """Get back the state that was sealed into the first answer."""
    if ctx.request_state == "asked" and filled_in(ctx, "confirm", "ok") is not None:
        return saying("state-ok")
    return _asking("asked", confirm=form("Please confirm", "ok", "boolean"))


async def test_input_required_result_tampered_state(ctx: Ctx) -> Answer:
    """Never see a state that is not the one which was sealed."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Answer:
    """Ask three things at once."""
    questions: dict[str, InputRequest] = {
        "user_name": form("What is your name?", "name"),
        "greeting": _sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if ctx.request_state == "asked" and questions.keys() <= (ctx.input_responses or {}).keys():
        return saying("Thank you for all three.")
    return _asking("asked", **questions)


async def test_input_required_result_multi_round(ctx: Ctx) -> Answer:
    """Ask a second thing after the first."""
    name, color = filled_in(ctx, "step1", "name"), filled_in(ctx, "step2", "color")
    if ctx.request_state == "named" and color is not None:
        return saying(f"Their color is {color}.")
    if ctx.request_state == "started" and name is not None:
        return _asking("named", step2=form("Step 2: What is your favorite color?", "color"))
    return _asking("started", step1=form("Step 1: What is your name?", "name"))


async def test_input_required_result_capabilities(ctx: Ctx) -> Answer:
    """Ask only what the client says it can answer."""
    able = ctx.client_capabilities
    questions: dict[str, InputRequest] = {}
    if able is not None and able.elicitation is not None:
        questions["user_name"] = form("What is your name?", "name")
    if able is not None and able.sampling is not None:
        questions["greeting"] = _sample("Generate a greeting")
    return _asking(**questions) if questions else saying("There is nothing to ask you.")


ASKING: Final[tuple[Callable[..., Any], ...]] = (
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


def _asking(state: str | None = None, /, **questions: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=questions, request_state=state)


def _sample(question: str) -> CreateMessageRequest:
    said = SamplingMessage(role="user", content=TextContent(type="text", text=question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[said], max_tokens=100))


def saying(text: str) -> CallToolResult:
    """Answer with one sentence."""
    return CallToolResult(content=[TextContent(type="text", text=text)])
