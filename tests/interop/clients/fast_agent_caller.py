"""Call Holdfast by fast-agent: its client lists and calls, its model repeats what it hears.

Prints one object: the tools, and what each call showed.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from fast_agent import FastAgent

SERVER = {
    "transport": "http",
    "url": os.environ["HOLDFAST_ENDPOINT"],
    "headers": {"Authorization": f"Bearer {os.environ['HOLDFAST_TOKEN']}"},
}
QUIET = {"type": "none", "progress_display": False, "show_chat": False, "show_tools": False}
Path("fast-agent.yaml").write_text(
    json.dumps({"logger": QUIET, "mcp": {"servers": {"holdfast": SERVER}}})
)
fast = FastAgent("holdfast", config_path="fast-agent.yaml", parse_cli_args=False, quiet=True)


@fast.agent(name="caller", servers=["holdfast"], model="passthrough")
async def main() -> None:
    async with fast.run() as app:
        agent = app["caller"]
        names = [tool.name for tool in (await agent.list_tools()).tools]

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            (name,) = [each for each in names if each.endswith(f"__{tool}")]
            result = await agent.call_tool(name, arguments)
            return {
                "is_error": bool(
                    result.is_error if hasattr(result, "is_error") else result.isError
                ),
                "text": "".join(part.text for part in result.content if part.type == "text"),
                "view": getattr(result, "structured_content", None)
                or getattr(result, "structuredContent", None),
            }

        launched = await call("launch_job", command=["echo", "by fast-agent"])
        job_id = launched["view"]["job_id"]
        waited = await call("wait_for_jobs", job_ids=[job_id], until="terminal", timeout_seconds=45)
        result = await call("job_result", job_id=job_id)
        mistake = await call("job_status", job_id="job_nothing")
        # By the model: it repeats the line, which is a call of a tool.
        repeated = await agent.send("***CALL_TOOL holdfast__whoami {}")
    sys.stdout.write(
        json.dumps(
            {
                "tools": names,
                "waited": waited,
                "result": result,
                "mistake": mistake,
                "repeated": repeated,
            }
        )
    )


asyncio.run(main())
