"""How many tools a client that may use all of them is shown."""

from typing import Final

from service.app import build_all_tools
from tests.support.jobs.retention import keep_for_a_month

TOOL_COUNT: Final = len(build_all_tools(keep_for_a_month))
