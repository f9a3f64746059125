"""One journey through our tools, the same for every client: what a person does in a day."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.common import ids
from tests.interop.client_processes import ConnectedClient, ToolResult

LOG_LINE: Final = "a line that was printed"
UNKNOWN_JOB_ID: Final = ids.format_handle(ids.HandleKind.JOB, ids.new_id())
_TIMEOUT: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Journey:
    """What a client was shown on its way."""

    version: str
    server: str
    tools: list[str]
    launched: ToolResult
    waited: ToolResult
    finished: ToolResult
    log: ToolResult
    result: ToolResult
    cancelled: ToolResult
    refused: ToolResult
    corrected: ToolResult


def run_journey(client: ConnectedClient, idempotency_key: str) -> Journey:
    """Launch a job and follow it, cancel another, and make two mistakes."""
    request = {
        "image": "python:3.12",
        "command": ["echo", LOG_LINE],
        "idempotency_key": idempotency_key,
    }
    launched = client.call("launch_job", request)
    handle = _read_job_id(launched)
    waited = _wait_until_terminal(client, handle)
    finished = client.call("job_status", {"job_ids": [handle]})
    log = client.call("job_logs", {"job_id": handle})
    result = client.call("job_result", {"job_id": handle})
    long = client.call("launch_job", {"image": "python:3.12", "command": ["sleep", "600"]})
    cancelled = client.call("cancel_job", {"job_id": _read_job_id(long)})
    refused = client.call("job_status", {"job_ids": [UNKNOWN_JOB_ID]})
    corrected = client.call("launch_job", {"image": "python:3.12", "commands": ["true"]})
    return Journey(
        client.version,
        client.server,
        client.tools,
        launched=launched,
        waited=waited,
        finished=finished,
        log=log,
        result=result,
        cancelled=cancelled,
        refused=refused,
        corrected=corrected,
    )


STEPS: Final[dict[str, Callable[[Journey], bool]]] = {
    "lists": lambda seen: "launch_job" in seen.tools,
    "launches": lambda seen: not seen.launched.failed,
    "waits": lambda seen: read_job_view(seen.waited)["state"] == "succeeded",
    "asks": lambda seen: read_job_view(seen.finished)["state"] == "succeeded",
    "reads the log": lambda seen: LOG_LINE in seen.log.text,
    "reads the result": lambda seen: seen.result.structured["exit_code"] == 0,
    "cancels": lambda seen: seen.cancelled.structured["state"] == "cancelled",
    "is told why": lambda seen: seen.refused.failed and UNKNOWN_JOB_ID in seen.refused.text,
}
"""What a client did, and whether it came to what was wanted."""


def _read_job_id(launched: ToolResult) -> str:
    assert not launched.failed, launched.text
    return str(launched.structured["job_id"])


def _wait_until_terminal(client: ConnectedClient, handle: str) -> ToolResult:
    """Wait until nothing of the job will change any more."""
    deadline = time.monotonic() + _TIMEOUT.total_seconds()
    while True:
        seen = client.call("wait_for_jobs", {"job_ids": [handle], "until": "terminal"})
        if seen.structured["done"]:
            return seen
        assert time.monotonic() < deadline, seen.text


def read_job_view(status: ToolResult) -> dict[str, Any]:
    """Return the view of the one job that was asked for."""
    assert not status.failed, status.text
    shown: dict[str, Any]
    (shown,) = status.structured["jobs"]
    return shown
