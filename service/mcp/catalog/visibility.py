"""Middleware that hides what a connection has not chosen.

Tools are chosen (`service.runtime.toolsets`). Whatever else does the work of a tool is hidden with
it: a prompt, a resource, a method of tasks. What is hidden is answered like what does not exist.
"""

from collections.abc import Mapping
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND

from service.mcp.resources import JOB_LOG_URI, JOB_URI, WORKSPACE_URI
from service.mcp.tasks.extension import CANCEL_METHOD
from service.runtime.toolsets import CURRENT_SELECTION, ToolCatalog

_PROMPT_TOOLS: Final[Mapping[str, str]] = {
    "run_and_watch": "launch_job",
    "diagnose_job": "job_status",
    "compare_runs": "job_status",
}
"""The tool that each prompt is about."""
_METHOD_TOOLS: Final[Mapping[str, str]] = {
    CANCEL_METHOD: "cancel_job",
    "tasks/get": "job_status",
    "tasks/update": "job_status",
}
"""The tool that does what a method does."""
_TEMPLATE_TOOLS: Final[Mapping[str, str]] = {
    JOB_URI: "job_status",
    JOB_LOG_URI: "job_logs",
    WORKSPACE_URI: "workspace_status",
}
"""The tool that shows what a resource shows."""


def hide_unselected(catalog: ToolCatalog) -> Any:
    """Build the middleware."""

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if CURRENT_SELECTION.get().is_everything:
            return await call_next(ctx)
        _expect_selected(catalog, ctx)
        result = await call_next(ctx)
        return _keep_selected(catalog, ctx.method, result) if isinstance(result, dict) else result

    return middleware


def _expect_selected(catalog: ToolCatalog, ctx: ServerRequestContext[Any, Any]) -> None:
    """Refuse what is hidden, in the words for what does not exist.

    Raises:
        MCPError: it is hidden.
    """
    params = ctx.params or {}
    name, uri = str(params.get("name")), str(params.get("uri"))
    if not catalog.is_selected(_METHOD_TOOLS.get(ctx.method, "")) and ctx.method in _METHOD_TOOLS:
        raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
    match ctx.method:
        case "tools/call" if not catalog.is_selected(name):
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name}")
        case "prompts/get" if name in _PROMPT_TOOLS:
            if not catalog.is_selected(_PROMPT_TOOLS[name]):
                raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name}")
        case "resources/read" if (tool := _find_resource_tool(uri)) is not None:
            if not catalog.is_selected(tool):
                raise MCPError(INVALID_PARAMS, f"Unknown resource: {uri}", {"uri": uri})
        case _:
            pass


def _find_resource_tool(uri: str) -> str | None:
    """Return the tool that shows what a URI of ours names; None for the page that is for all."""
    scheme, _, rest = uri.partition("://")
    if scheme == "workspace":
        return _TEMPLATE_TOOLS[WORKSPACE_URI]
    if scheme == "job":
        return _TEMPLATE_TOOLS[JOB_LOG_URI if rest.endswith("/logs") else JOB_URI]
    return None


def _keep_selected(catalog: ToolCatalog, method: str, result: dict[str, Any]) -> HandlerResult:
    """Leave out of a list what is hidden."""
    match method:
        case "tools/list":
            tools = [tool for tool in result["tools"] if catalog.is_selected(tool["name"])]
            return {**result, "tools": tools}
        case "prompts/list":
            prompts = [
                prompt
                for prompt in result["prompts"]
                if catalog.is_selected(_PROMPT_TOOLS.get(prompt["name"], ""))
            ]
            return {**result, "prompts": prompts}
        case "resources/list":
            resources = [
                resource
                for resource in result["resources"]
                if (tool := _find_resource_tool(resource["uri"])) is None
                or catalog.is_selected(tool)
            ]
            return {**result, "resources": resources}
        case "resources/templates/list":
            templates = [
                template
                for template in result["resourceTemplates"]
                if catalog.is_selected(_TEMPLATE_TOOLS.get(template["uriTemplate"], ""))
            ]
            return {**result, "resourceTemplates": templates}
        case _:
            return result
