"""Transitions of jobs as the database reports them after a commit, for logs and metrics."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict

from schema.common import ids

log = structlog.stdlib.get_logger()


class JobTransition(BaseModel):
    """One committed event of a job; `change_notifications.sql` writes it as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: UUID
    version: int
    subject_id: str
    kind: str
    """The kind of the job, an open word."""
    event: str
    """One of `EventKind`."""
    state: str
    """The state of the job after it."""
    reason: str | None
    request_id: str | None
    """Of the request that made this transition, or else of the one that made the job."""
    is_end: bool
    """Whether the job became final with this event."""


_FREQUENT_EVENTS: Final = frozenset({"progressed", "stage"})

TransitionListener = Callable[[Sequence[JobTransition]], None]
"""Called after a commit with the transitions it made, in their order."""


def log_transitions(transitions: Sequence[JobTransition]) -> None:
    """Write one line for each transition that has just been committed.

    Progress and the stages of a run are no states of a job, and come every few seconds.
    """
    for transition in transitions:
        write = log.debug if transition.event in _FREQUENT_EVENTS else log.info
        write(
            "job.moved",
            job=ids.format_handle(ids.HandleKind.JOB, transition.job_id),
            transition=transition.event,
            state=transition.state,
            reason=transition.reason,
            kind=transition.kind,
            subject=transition.subject_id,
            **({} if transition.request_id is None else {"request_id": transition.request_id}),
        )
