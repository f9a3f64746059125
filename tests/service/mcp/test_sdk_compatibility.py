"""What we lean on in the MCP SDK without a promise from it: a newer one is not to surprise us."""

import ast
import gc
import inspect
import weakref
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.server.runner import serve_one
from mcp.shared.dispatcher import DispatchContext

import service
from service.http.single_exchange import SingleExchange
from service.mcp import dependencies
from tests.support.paths import REPOSITORY

SDK_PACKAGES: Final = ("mcp", "mcp_types")
ALLOWED_PRIVATE_USES: Final[set[tuple[str, str]]] = set()
"""Where we touch something private of the SDK, and what; empty is how it should be."""


def test_the_sdk_is_the_one_our_touches_were_tried_against() -> None:
    """Read what is listed in here against the new one, then change this line."""
    assert version("mcp").startswith("2.3.")


def test_what_we_override_is_called_as_we_expect() -> None:
    """`McpTool.run` and the methods of `_ToolFuncMetadata` take the place of these."""
    run = inspect.signature(Tool.run).parameters
    assert list(run) == ["self", "arguments", "context", "convert_result"]
    assert list(inspect.signature(FuncMetadata.pre_parse_json).parameters) == ["self", "data"]
    validate = inspect.signature(FuncMetadata.validate_arguments).parameters
    assert list(validate) == ["self", "arguments_to_validate"]
    assert {"parameters", "fn_metadata"} <= Tool.model_fields.keys()


def test_a_single_exchange_is_driven_as_we_expect() -> None:
    """`SingleExchangeTransport` calls what the SDK itself calls for requests of 2026-07-28."""
    parameters = inspect.signature(serve_one).parameters
    assert list(parameters)[:4] == ["server", "dctx", "method", "params"]
    assert {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY} == {
        "connection",
        "lifespan_state",
    }
    assert list_members(DispatchContext) == list_members(SingleExchange)


def list_members(each: type) -> set[str]:
    """List what is public in a class."""
    return {name for name in dir(each) if not name.startswith("_")}


def test_the_model_of_resolved_values_is_built_once() -> None:
    """The SDK asks for it in each call; pydantic forgets it if nobody holds it."""
    model = weakref.ref(AcceptedElicitation[Any])

    gc.collect()

    assert model() is dependencies.RESOLVED_VALUE


def test_what_we_touch_in_private_is_listed() -> None:
    """Whoever needs one more private thing of the SDK says so here, once."""
    touched = {
        (str(path.relative_to(REPOSITORY)), name)
        for path in sorted(Path(service.__file__).parent.rglob("*.py"))
        for name in find_private_uses(path.read_text(encoding="utf-8"))
    }

    assert touched == ALLOWED_PRIVATE_USES


@pytest.mark.parametrize(
    ("code", "uses"),
    [
        ("from mcp.server._otel import trace", ["mcp.server._otel"]),
        ("from mcp.shared import _context", ["_context"]),
        ("import mcp.server._typed", ["mcp.server._typed"]),
        ("from mcp.server import MCPServer\nMCPServer('x')._tool_manager", ["_tool_manager"]),
        (
            "from mcp import Client\ndef f(c): return c.session._request_outbound",
            ["_request_outbound"],
        ),
        ("from mcp import Client\ngetattr(Client, '_negotiate')", ["_negotiate"]),
        ("class A:\n  def f(self): return self._own", []),
        ("from mcp import Client\nclass A:\n  def f(self, a): return self._own is a._own", []),
        ("thing._private", []),
        ("from mcp import Client\nClient.__name__", []),
    ],
)
def test_a_private_touch_is_seen(code: str, uses: list[str]) -> None:
    """In whatever way it is written."""
    assert list(find_private_uses(code)) == uses


def find_private_uses(code: str) -> Iterator[str]:
    """Yield what a module touches that is private, if it knows the SDK at all."""
    nodes = list(ast.walk(ast.parse(code)))
    imported = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [name for node in imported for name in _imported_modules(node)]
    if not any(map(_is_sdk, modules)):
        return
    own = set(filter(None, map(_defined_name, nodes)))
    yield from (name for name in modules if any(map(_is_private, name.split("."))))
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str() as module, names=names) if _is_sdk(module):
                yield from (alias.name for alias in names if _is_private(alias.name))
            case ast.Attribute(attr=name) if _is_private(name) and name not in own:
                yield name
            case ast.Call(
                func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]
            ):
                if _is_private(name):
                    yield name
            case _:
                continue


def _defined_name(node: ast.AST) -> str | None:
    """Return the name a node gives to something of this module."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
            return name
        case _:
            return None


def _imported_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module else []
    return [alias.name for alias in node.names]


def _is_sdk(module: str) -> bool:
    return module.partition(".")[0] in SDK_PACKAGES


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
