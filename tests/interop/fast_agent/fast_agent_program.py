"""The MCP client of fast-agent: it connects, lists the tools, launches, waits, reads the result."""

import json
import shutil
from typing import Any, Final

import pytest

from tests.interop.fast_agent import CALLER, PACKAGE, VERSION
from tests.interop.fast_agent.debian_root import PYTHON, prepare_root, run_inside
from tests.interop.interop_page import check_section
from tests.support.stack import McpCaller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(8000)]

SECTION: Final = "fast-agent"
LINE: Final = f"""
`{PACKAGE}` {VERSION} needs Python 3.13. `python3 -m tests.interop.fast_agent` runs it in a Debian
of its own: it connects, lists the tools, launches, waits, reads the result, and is told why a call
failed: ●
"""


def test_fast_agent_does_what_any_client_does(alice: McpCaller) -> None:
    """With its model `passthrough`, which needs no account: it repeats what it hears."""
    root = prepare_root()
    shutil.copyfile(CALLER, root / CALLER.name)

    assert alice.connection.token is not None
    printed = run_inside(
        root,
        PYTHON,
        f"/{CALLER.name}",
        variables={
            "HOLDFAST_ENDPOINT": alice.connection.endpoint,
            "HOLDFAST_TOKEN": alice.connection.token,
        },
    )

    seen: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    assert "holdfast__launch_job" in seen["tools"]
    assert seen["waited"]["view"]["jobs"][0]["state"] == "succeeded"
    assert seen["result"]["is_error"] is False
    assert "succeeded" in seen["result"]["text"]
    assert seen["mistake"]["is_error"] is True
    assert "alice" in seen["repeated"]
    check_section(SECTION, LINE)
