"""Handles of jobs, as callers see them."""

from uuid import UUID

from schema.common import ids
from schema.common.ids import HandleKind
from schema.jobs.tables import Job


def job_handle(job: Job | UUID) -> str:
    """Return the handle of a job, or of a job's id."""
    return ids.format_handle(HandleKind.JOB, job if isinstance(job, UUID) else job.id)


def job_uri(job: Job | UUID) -> str:
    """Return the URI of the resource that shows a job."""
    return f"job://{job_handle(job)}"
