"""Arguments that each tool takes, as short as can be."""

from typing import Any, Final

UNKNOWN_JOB_ID: Final = "job_01krz4c0s0e5xv4k6w2q8ntb7m"
JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["python", "-c", "print(1)"]}
WORKSPACE_ID: Final = "ws_01krz4c0s0e5xv4k6w2q8ntb7m"
SCHEDULE_ID: Final = "sched_01krz4c0s0e5xv4k6w2q8ntb7m"
VALID_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "launch_job": JOB,
    "launch_inference": {"model": "m/m", "inputs": "Name three rivers."},
    "launch_space_call": {"space": "a/space", "api_name": "/infer", "arguments": {"prompt": "x"}},
    "job_status": {"job_ids": [UNKNOWN_JOB_ID]},
    "wait_for_jobs": {"job_ids": [UNKNOWN_JOB_ID]},
    "job_logs": {"job_id": UNKNOWN_JOB_ID},
    "job_result": {"job_id": UNKNOWN_JOB_ID},
    "cancel_job": {"job_id": UNKNOWN_JOB_ID},
    "retry_job": {"job_id": UNKNOWN_JOB_ID},
    "create_workspace": {"name": "llama"},
    "workspace_status": {"workspace_id": WORKSPACE_ID},
    "update_workspace": {"workspace_id": WORKSPACE_ID, "budget_usd": 1},
    "archive_workspace": {"workspace_id": WORKSPACE_ID},
    "create_schedule": {"cron": "0 9 * * *", "timezone": "Europe/Paris", "job": JOB},
    "update_schedule": {"schedule_id": SCHEDULE_ID, "paused": True},
    "delete_schedule": {"schedule_id": SCHEDULE_ID},
}
"""Of each tool that has arguments it needs."""
