"""workers.hub.labels."""

from typing import Final
from uuid import UUID

APP_LABEL: Final = "holdfast-app"


APP_NAME: Final = "holdfast"


JOB_LABEL: Final = "holdfast-job"


RUN_LABEL: Final = "holdfast-run"


RUN_VARIABLE: Final = "HOLDFAST_RUN"
"""Labels can be edited; the environment of a run cannot."""


def run_label(run_id: UUID) -> str:
    """Write the label that finds a run in a listing."""
    return f"{RUN_LABEL}={run_id}"
