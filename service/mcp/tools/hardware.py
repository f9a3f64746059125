"""The tool that lists the hardware jobs can run on, with current prices.

Its answer is the same for everybody, and is made once for each price list and choice.
"""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from schema.billing.pricing import HardwarePrices
from schema.common.money import to_micro_usd
from schema.common.text import format_count
from service.mcp.dependencies import AppDep
from service.mcp.tool import READ_ONLY, McpTool, build_tool, tool_result
from service.views.money import HardwareView


async def list_hardware(
    max_price: Annotated[float | None, Field(gt=0, description="In USD an hour.")] = None,
    gpu_only: bool = False,  # noqa: FBT001, FBT002  # filled in by name, from JSON
    *,
    app: AppDep,
) -> Annotated[CallToolResult, HardwareView]:
    """List the flavors launch_job can run on, the cheapest first, with what each costs now.

    Every started minute is billed; waiting for hardware costs nothing.
    """

    def describe(prices: HardwarePrices) -> CallToolResult:
        return _describe_hardware(prices, max_price, gpu_only=gpu_only)

    prices = await app.price_cache.current()
    return app.price_cache.answers.get_or_make(prices, (max_price, gpu_only), describe)


def _describe_hardware(
    prices: HardwarePrices, max_price: float | None, *, gpu_only: bool
) -> CallToolResult:
    max_micro_usd = None if max_price is None else to_micro_usd(max_price)
    view = HardwareView.from_price_list(
        prices, max_micro_usd_per_hour=max_micro_usd, gpu_only=gpu_only
    )
    lines = [flavor.line for flavor in view.flavors]
    sentence = f"{format_count(len(lines), 'flavor')}, the cheapest first"
    if prices.is_stale:
        sentence += f", as of {prices.read_at:%Y-%m-%d %H:%M} UTC: Hugging Face does not answer"
    if view.left_out:
        sentence += (
            f"; {view.left_out:,} dearer ones are left out: give gpu_only=true, or a max_price, "
            "for fewer"
        )
    return tool_result(f"{sentence}.", view, "\n".join(lines))


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [build_tool(list_hardware, "List hardware", READ_ONLY, is_public=True)]
