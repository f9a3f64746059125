"""The job that `holdfast demo` launches and shows, from the tool call to the result.

Every call goes through the public tools, over HTTP, with the client of the MCP SDK.
"""

from datetime import timedelta
from typing import Any, Final

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from schema.db.database import Database
from service.web.client_config import Connection

_POLL_INTERVAL: Final = timedelta(milliseconds=250)
_TIMEOUT: Final = timedelta(minutes=2)
_SCRIPT: Final = """
import platform, time
print(f"Hello from a job on Python {platform.python_version()}", flush=True)
for step in range(1, 4):
    time.sleep(0.3)
    print(f"step {step} of 3, loss={1 / (step + 1):.3f}", flush=True)
print("done", flush=True)
"""

_QUERIES: Final = (
    """SELECT handle, state, attempt, ran_for
  FROM v_job
 WHERE job_id = read_handle('{handle}')""",
    """SELECT version, event, state, actor,
       to_char(at, 'HH24:MI:SS.MS') AS at
  FROM v_job_timeline
 WHERE job_id = read_handle('{handle}')
 ORDER BY version""",
)
"""They fit a terminal of 80 columns, as does what they select."""
_STATUS_COLUMNS: Final = 22


async def run_demo_job(console: Console, connection: Connection, database_url: str) -> bool:
    """Launch a job, watch it, and print its result; return whether it succeeded."""
    console.print(
        "\nThe local Hub runs the job as a process of this machine. Nothing is charged: "
        "the prices below are what Hugging Face would ask for it.\n",
        highlight=False,
    )
    async with (
        httpx2.AsyncClient(headers=connection.headers) as http,
        Client(streamable_http_client(connection.endpoint, http_client=http)) as client,
    ):
        view = await _call_tool(
            client,
            "launch_job",
            image="python:3.12",
            command=["python", "-c", _SCRIPT],
            flavor="cpu-basic",
            timeout="2m",
            labels={"from": "demo"},
            name="hello",
        )
        handle = view["job_id"]
        console.print(f"[bold]launch_job[/] answered with the handle [cyan]{handle}[/]\n")
        view = await _watch_job(console, client, handle)
        log = await _call_tool(client, "job_logs", job_id=handle)
        result = await _call_tool(client, "job_result", job_id=handle)
    console.print(Panel("\n".join(line["text"] for line in log["lines"]), title="job_logs"))
    console.print(f"[bold]job_result[/] {result['summary']}", highlight=False)
    await _print_rows(console, database_url, handle)
    return bool(view["state"] == "succeeded")


async def _watch_job(console: Console, client: Client, handle: str) -> dict[str, Any]:
    """Poll job_status until the job is over, and print each change."""
    last_status = ""
    with (
        anyio.fail_after(_TIMEOUT.total_seconds()),
        Live(console=console, refresh_per_second=8, transient=True) as live,
    ):
        while True:
            view: dict[str, Any] = (await _call_tool(client, "job_status", job_ids=[handle]))[
                "jobs"
            ][0]
            status = f"{view['state']}/{view['stage'] or '-'}"
            if status != last_status:
                live.console.print(_align_status(status, view["summary"]))
                last_status = status
            if view["finished_at"]:
                return view
            live.update(f"  [dim]polling job_status({handle})[/]")
            await anyio.sleep(_POLL_INTERVAL.total_seconds())


def _align_status(status: str, summary: str) -> Table:
    """Put the summary beside the status, and its further lines below its first."""
    grid = Table.grid(padding=(0, 0, 0, 2))
    grid.add_column(width=_STATUS_COLUMNS, no_wrap=True)
    grid.add_column()
    grid.add_row(Text(status), Text(summary))
    return grid


async def _print_rows(console: Console, database_url: str, handle: str) -> None:
    """Print the job and its events from the views, each after the SQL that selects it."""
    async with Database(
        database_url, application_name="holdfast-demo", max_connections=1
    ) as database:
        for template in _QUERIES:
            statement = template.format(handle=handle)
            async with database.transaction() as tx:
                rows = await tx.fetch(statement)
            console.print()
            console.print(Syntax(statement, "sql", background_color="default"))
            table = Table(show_edge=False)
            for name in rows[0].keys():  # noqa: SIM118  # a Record iterates over its values
                table.add_column(name, overflow="fold")  # an ellipsis would cut a handle
            for row in rows:
                table.add_row(*(str(value) for value in row.values()))
            console.print(table)


async def _call_tool(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    if result.is_error or result.structured_content is None:
        raise RuntimeError(f"{tool}: {result.content}")
    answer: dict[str, Any] = result.structured_content
    return answer
