"""MCP tools with strict arguments, short schemas, and failures that a model can act on.

This is the only module that builds on what mcp 2.3.0 leaves open without a promise: `Tool.run` may
be overridden, `Tool.parameters` and `Tool.fn_metadata` may be replaced, `FuncMetadata` decides what
a tool is called with, and an exception that leaves a tool arrives as the `__cause__` of a
`ToolError`. Run tests/service against a newer SDK before you take it.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from inspect import cleandoc
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    ContentBlock,
    TextContent,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import override

from schema.common.errors import HoldfastError, Invalid, NotFound, Unauthenticated
from schema.db.storable import expect_storable
from schema.specs.validation_errors import to_invalid_error
from service.auth.caller import ALL_SCOPES, Scope
from service.mcp.content import adapt_content
from service.mcp.error_hints import (
    MAX_REFUSAL_BYTES,
    build_error_hint,
    correct_arguments,
    describe_refusal,
    format_correct_call,
)
from service.mcp.token_check import expect_no_token
from service.mcp.tool_schema import (
    drop_repeated_descriptions,
    shorten_input_schema,
    shorten_output_schema,
)
from service.runtime.call_observer import ERROR_META_KEY
from service.runtime.context import CURRENT_CALLER, App, ScopeFinder
from service.views.answers import shorten_json
from service.views.text import count_json_bytes, fit_text

# What is left out is as the protocol assumes: a call acts in an open world, and not idempotently.
READ_ONLY: Final = ToolAnnotations(read_only_hint=True)
CREATES: Final = ToolAnnotations(read_only_hint=False, destructive_hint=False)
IDEMPOTENT_WRITE: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True
)
DESTRUCTIVE: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True
)
_DRY_RUN_ARGUMENT: Final = "dry_run"
"""Of the tools that launch: the call is checked whole, and makes nothing."""


def tool_result(
    sentence: str, view: BaseModel, detail: str = "", blocks: Iterable[ContentBlock] = ()
) -> CallToolResult:
    """Answer a call: text for the model, the same as an object for programs, links for hosts.

    Many hosts hand a model only the content. So whatever it needs stands in the texts: handles, the
    next call, counts, costs and cursors.

    Args:
        sentence: what has happened, and what to do next.
        view: the object.
        detail: what is long: lines of a list, a log, an answer.
        blocks: links, pictures and sounds; `adapt_content` replaces what a client does not know.
    """
    texts = [TextContent(type="text", text=text) for text in (sentence, detail) if text]
    return CallToolResult(
        content=[*texts, *blocks],
        structured_content=view.model_dump(mode="json"),
    )


@contextmanager
def raise_mcp_errors() -> Generator[None]:
    """Turn an expected failure into an error of the protocol, where there is no tool result."""
    try:
        yield
    except HoldfastError as failure:
        code = INVALID_PARAMS if isinstance(failure, (Invalid, NotFound)) else INTERNAL_ERROR
        advice = build_error_hint(failure).advice if isinstance(failure, NotFound) else ""
        raise MCPError(
            code,
            f"{describe_refusal(failure)} {advice}".strip(),
            {ERROR_META_KEY: failure.to_dict()},
        ) from None


class ToolArguments(ArgModelBase):
    """The arguments of a tool, as one model.

    A tool that takes one parameter `arguments` of such a type publishes the fields of the model as
    its arguments. Its resolvers may take `arguments` too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def select_fields(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the values of the fields that `model` has too, without those that are None."""
        names = type(self).model_fields.keys() & model.model_fields.keys()
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


ArgumentsT = TypeVar("ArgumentsT", bound=ToolArguments)


class McpTool(Tool):
    """A tool that refuses unknown arguments, and answers each expected failure in a sentence."""

    required_scopes: tuple[Scope, ...] = Field(exclude=True, default=())
    """Scopes of which the caller's token has to have one; empty for a tool that only reads."""
    is_public: bool = Field(exclude=True, default=False)
    """Whether a caller who has not signed in may call it; it shows nothing of anybody's."""
    scope_finder: ScopeFinder | None = Field(exclude=True, default=None)
    """Finds all the scopes that a call needs, where that depends on its arguments."""

    @override
    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        """Run the tool; an expected failure becomes an answer."""
        try:
            # Unpacked before it is checked: JSON in a text may hold what the text does not.
            arguments = self.fn_metadata.pre_parse_json(arguments)
            answer = await self._run_checked(arguments, context, convert_result=convert_result)
            version = context.protocol_version
            if not isinstance(answer, CallToolResult) or version is None:
                return answer
            return adapt_content(answer, version)
        except HoldfastError as failure:
            call = await self._find_correct_call(failure, arguments, context)
            return _error_result(failure, call)

    async def _run_checked(
        self, arguments: dict[str, Any], context: Context[Any, Any], *, convert_result: bool
    ) -> Any:
        """Check the arguments as a whole, and run the tool.

        Raises:
            HoldfastError: the call is refused, or failed as expected.
        """
        await self._expect_scopes(arguments, context)
        expect_storable(arguments)
        if self.annotations != READ_ONLY:
            expect_no_token(arguments, self.fn_metadata.arg_model.model_fields)
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if (expected := self._expected_failure(error)) is None:
                raise
            raise expected from None

    async def _expect_scopes(self, arguments: dict[str, Any], context: Context[Any, Any]) -> None:
        # The middleware has checked this already; here it holds for a call that got around it.
        caller = CURRENT_CALLER.get()
        if caller is None and not self.is_public:
            raise Unauthenticated("This call carries no token. Sign in first.")
        if (
            caller is not None
            and self.required_scopes
            and caller.scopes.isdisjoint(self.required_scopes)
        ):
            caller.require_scope(self.required_scopes[0])
        if caller is None or self.scope_finder is None or caller.scopes >= ALL_SCOPES:
            return
        app: App = context.request_context.lifespan_context
        needed = await self.scope_finder(app, caller, arguments)
        if missing := [scope for scope in Scope if scope in needed - caller.scopes]:
            raise caller.missing_scopes_error(*missing)

    def _expected_failure(self, error: ToolError) -> HoldfastError | None:
        cause = error.__cause__
        if isinstance(cause, HoldfastError):
            return cause
        if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
            return to_invalid_error(cause, known_arguments=self.fn_metadata.arg_model.model_fields)
        return None

    async def _find_correct_call(
        self, failure: HoldfastError, arguments: Mapping[str, Any], context: Context[Any, Any]
    ) -> str:
        """Return the caller's own call without its mistakes, if that call would be accepted.

        A tool with a dry run is asked by one: what a launch needs is only known to all its checks.
        """
        if not isinstance(failure, Invalid) or not failure.corrections:
            return ""
        corrected = correct_arguments(arguments, failure.corrections)
        if corrected is None or not (call := format_correct_call(self.name, corrected)):
            return ""
        try:
            if _DRY_RUN_ARGUMENT in self.fn_metadata.arg_model.model_fields:
                dry_run = {**corrected, _DRY_RUN_ARGUMENT: True}
                await self._run_checked(dry_run, context, convert_result=False)
            else:
                self.fn_metadata.validate_arguments(corrected)
        except (HoldfastError, ValueError):
            return ""
        return call


def _error_result(failure: HoldfastError, correct_call: str) -> CallToolResult:
    message, hint = describe_refusal(failure), build_error_hint(failure, correct_call)
    error = {
        **failure.to_dict(),
        "message": message,
        "remedy": hint.advice,
    } | ({"next_call": hint.next_call} if hint.next_call else {})
    # No structured content: the v1 TypeScript SDK checks even that of an error against the
    # output schema.
    return CallToolResult(
        content=[TextContent(type="text", text=f"{message} {hint.appended_text}".strip())],
        is_error=True,
        _meta={ERROR_META_KEY: error},
    )


def build_tool(
    function: Callable[..., Any],
    title: str,
    annotations: ToolAnnotations,
    *required_scopes: Scope,
    scope_finder: ScopeFinder | None = None,
    is_public: bool = False,
    show_details: bool = False,
    retention: str = "",
) -> McpTool:
    """Make a tool of a function; its docstring is what the model reads.

    Args:
        function: the tool; it takes its arguments one by one, or as one `ToolArguments`.
        title: what a host calls it.
        annotations: what a host may assume about a call.
        required_scopes: scopes of which the caller's token has to have one.
        scope_finder: finds all the scopes that a call needs, by its arguments.
        is_public: whether a caller who has not signed in may call it.
        show_details: whether the schema publishes the fields of a view that are marked as details;
            the view has them in any case.
        retention: how long a job is kept, for a docstring that says `{retention}`.
    """
    paragraphs = cleandoc(function.__doc__ or "").replace("{retention}", retention).split("\n\n")
    description = "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    tool = McpTool.from_function(
        function, title=title, description=description, annotations=annotations
    )
    assert isinstance(tool, McpTool)  # noqa: S101  # the SDK says Tool, and makes what it is called on
    argument_model, result_type = _argument_model(tool), tool.fn_metadata.output_model
    tool.parameters = shorten_input_schema(argument_model.model_json_schema(by_alias=True))
    tool.fn_metadata = _ToolFuncMetadata(
        arg_model=argument_model,
        output_model=result_type,
        output_schema=shorten_output_schema(
            TypeAdapter(result_type).json_schema(mode="serialization"), show_details=show_details
        ),
    )
    tool.required_scopes = required_scopes
    tool.scope_finder = scope_finder
    tool.is_public = is_public
    return tool


def parse_arguments(model: type[ArgumentsT], arguments: Mapping[str, Any]) -> ArgumentsT:
    """Check arguments as a call does, for a call that is made later.

    Raises:
        Invalid: with a sentence for each argument that is wrong.
    """
    try:
        parsed = _ToolFuncMetadata(arg_model=model).pre_parse_json(dict(arguments))
        return model.model_validate(parsed)
    except ValidationError as error:
        raise to_invalid_error(error, known_arguments=model.model_fields) from None


def _argument_model(tool: Tool) -> type[ArgModelBase]:
    """Return the model of what a call may send; it refuses names that it does not know."""
    generated = tool.fn_metadata.arg_model
    match list(generated.model_fields.items()):
        case [("arguments", field)] if isinstance(field.annotation, type) and issubclass(
            field.annotation, ToolArguments
        ):
            return field.annotation
        case _:
            generated.model_config["extra"] = "forbid"
            generated.model_config["allow_inf_nan"] = False
            generated.model_rebuild(force=True)
            return generated


class _ToolFuncMetadata(FuncMetadata):
    @override
    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        if not issubclass(self.arg_model, ToolArguments):
            return super().validate_arguments(arguments_to_validate)
        parsed = self.pre_parse_json(arguments_to_validate)
        return {"arguments": self.arg_model.model_validate(parsed)}

    @override
    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """Unpack JSON that a client wrote into a string, and leave out what it filled with null.

        An argument that may be a text keeps its text: the SDK would unpack a prompt such as
        `"null"` or `'["a"]'`. A client that fills in every argument writes null for nothing.
        """
        fields, text_fields = self.arg_model.model_fields, _text_fields(self.arg_model)
        packed = {
            name: value
            for name, value in data.items()
            if isinstance(value, str) and name not in text_fields
        }
        unpacked = data | super().pre_parse_json(packed) if packed else data
        return {
            name: value
            for name, value in unpacked.items()
            if value is not None or name not in fields
        }


@cache
def _text_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that may be a text."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if str in _accepted_types(field.annotation)
    )


def _accepted_types(annotation: object) -> set[object]:
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    types = [
        get_args(member)[0] if get_origin(member) is Annotated else member for member in members
    ]
    return {get_origin(member) or member for member in types}


def reject_unknown_names(tools: Iterable[McpTool], prompts: Iterable[Prompt]) -> Any:
    """Refuse the name of a tool or prompt that does not exist with -32602, as the protocol says.

    The SDK answers an unknown tool as a failure of the tool. It takes an unknown prompt for a bug
    of ours, and logs it together with what the caller wrote.
    """
    names_by_method = {
        "tools/call": ("tool", frozenset(tool.name for tool in tools)),
        "prompts/get": ("prompt", frozenset(prompt.name for prompt in prompts)),
    }

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        name = (ctx.params or {}).get("name")
        noun, names = names_by_method.get(ctx.method, ("", frozenset[str]()))
        if noun and isinstance(name, str) and name not in names:
            raise MCPError(INVALID_PARAMS, f"Unknown {noun}: {name}")
        return await call_next(ctx)

    return middleware


async def shorten_errors(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Shorten the errors of the protocol: they repeat names and addresses of any length."""
    try:
        return await call_next(ctx)
    except MCPError as error:
        if count_json_bytes([error.message, error.data]) <= MAX_REFUSAL_BYTES:
            raise
        message = fit_text(error.message, MAX_REFUSAL_BYTES, keeps_end=True)
        data = shorten_json(error.data, MAX_REFUSAL_BYTES)
        raise MCPError(error.code, message, data) from None


def hide_unusable_tools(tools: Iterable[McpTool]) -> Any:
    """List only the tools that a caller can use, or could use after a sign-in for more scopes.

    A caller with a static token cannot sign in for more. A caller with OAuth, or without any token,
    is asked to when they call such a tool; so they are shown it.
    """
    required_scopes = {tool.name: tool.required_scopes for tool in tools}

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        caller = CURRENT_CALLER.get()
        if ctx.method != "tools/list" or not isinstance(result, dict):
            return result
        scopes = caller.scopes | caller.obtainable_scopes if caller is not None else ALL_SCOPES
        usable_tools = [
            tool
            for tool in result["tools"]
            if not (required := required_scopes[tool["name"]]) or not scopes.isdisjoint(required)
        ]
        return {**result, "tools": drop_repeated_descriptions(usable_tools)}

    return middleware
