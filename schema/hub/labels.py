"""Labels and environment variables that mark our jobs at the Hub."""

from typing import Final
from uuid import UUID

APP_LABEL: Final = "holdfast-app"
APP_NAME: Final = "holdfast"
"""The value of that label."""
JOB_LABEL: Final = "holdfast-job"
RUN_LABEL: Final = "holdfast-run"
SERVER_LABEL: Final = "holdfast-server"
"""The deployment that has launched it: one person may use several."""
REQUEST_LABEL: Final = "holdfast-request"
"""The id of the request that made the job, as in our log lines."""
TRACE_LABEL: Final = "holdfast-trace"
"""The id of the trace of that request, if traces are made."""
RUN_VARIABLE: Final = "HOLDFAST_RUN"
"""Names the run too: users can edit labels, but not the environment of a run."""


def run_label(run_id: UUID) -> str:
    """Return the label that finds a run in a listing."""
    return f"{RUN_LABEL}={run_id}"
