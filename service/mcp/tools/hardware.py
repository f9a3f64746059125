"""The tool that says what there is to run on, and what it costs."""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from schema.common.money import micro
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import READS, Contract, contract, told
from service.views.money import HardwareView


async def list_hardware(
    max_price: Annotated[float | None, Field(gt=0, description="In USD an hour.")] = None,
    gpu_only: bool = False,  # noqa: FBT001, FBT002  # filled in by name, from JSON
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, HardwareView]:
    """List the flavors launch_job can run on, the cheapest first, with what each costs now.

    Every started minute is billed while it runs, and nothing while it waits for hardware.
    """
    current = await app.prices.current()
    most = None if max_price is None else micro(max_price)
    view = HardwareView.of(current, most_an_hour=most, gpu_only=gpu_only)
    lines = [
        f"{each.name}: ${each.usd_per_hour:.2f}/h, {each.cpu}, {each.ram}"
        + (f", {each.gpu}" if each.gpu else "")
        for each in view.flavors
    ]
    since = f", as of {current.read_at:%Y-%m-%d %H:%M} UTC: Hugging Face does not answer"
    sentence = f"{len(lines)} flavors, the cheapest first{since if current.stale else ''}."
    return told(sentence, view, "\n".join(lines))


def contracts() -> list[Contract]:
    """Publish this tool."""
    return [contract(list_hardware, "List hardware", READS, max_price=2, gpu_only=True)]
