"""Transitions of jobs as the database reports them after a commit, for logs and metrics."""

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict


class JobTransition(BaseModel):
    """One committed event of a job; `change_notifications.sql` writes it as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    version: int
    subject_id: str
    kind: str
    """The kind of the job, an open word."""
    event: str
    """One of `EventKind`."""
    state: str
    """The state of the job after it."""
    reason: str | None
    is_end: bool
    """Whether the job became final with this event."""


TransitionListener = Callable[[Sequence[JobTransition]], None]
"""Called after a commit with the transitions it made, in their order."""
