"""fast-agent, whose MCP client needs a later Python than ours: it runs in a Debian of its own.

That takes root and a network, so no command but `python3 -m tests.interop.fast_agent` runs it.
"""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
CALLER: Final = FOLDER.parent / "clients" / "fast_agent_caller.py"
"""What runs inside of that root."""
PACKAGE: Final = "fast-agent-mcp"
VERSION: Final = "0.10.48"
