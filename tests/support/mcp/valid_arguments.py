"""Arguments that each tool takes, as few as can be."""

from collections.abc import Iterable
from typing import Any, Final

COMMAND: Final = ["python", "-c", "print(1)"]

REQUIRED_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "launch_job": {"image": "python:3.12", "command": COMMAND},
    "launch_inference": {"model": "m/m", "inputs": "Hi"},
    "launch_space_call": {"space": "ada/asleep"},
    "adopt_job": {"hub_job_id": "6a31d7ef5ff0a6cf94f9f8b9"},
    "create_workspace": {"name": "mine"},
    "create_upload": {"name": "data.csv"},
    "wait_for_jobs": {"timeout_seconds": 0.1},
    "create_schedule": {"cron": "@daily", "job": {"image": "python:3.12", "command": COMMAND}},
    "update_schedule": {"paused": True},
    "rotate_webhook_secret": {"webhook_url": "https://hooks.example.com/h"},
}
"""What a tool cannot do without, apart from handles, or would take its time without."""
UNKNOWN_JOB_ID: Final = "job_01krz4c0s0e5xv4k6w2q8ntb7m"
UNKNOWN_HANDLES: Final[dict[str, Any]] = {
    "job_id": UNKNOWN_JOB_ID,
    "job_ids": [UNKNOWN_JOB_ID],
    "workspace_id": "ws_01krz4c0s0e5xv4k6w2q8ntb7m",
    "schedule_id": "sched_01krz4c0s0e5xv4k6w2q8ntb7m",
}

EITHER_ARGUMENT: Final = {"cancel_job": "job_id", "wait_for_jobs": "job_ids"}
"""Tools that take one of several handles, none of them required, and the one that tests give."""


def complete_arguments(tool: str, required_names: Iterable[str]) -> dict[str, Any]:
    """Return what a tool requires; its handles are of nothing that there is."""
    names = [*required_names]
    if tool in EITHER_ARGUMENT and not UNKNOWN_HANDLES.keys() & set(names):
        names.append(EITHER_ARGUMENT[tool])
    handles = {name: UNKNOWN_HANDLES[name] for name in names if name in UNKNOWN_HANDLES}
    return REQUIRED_ARGUMENTS.get(tool, {}) | handles
