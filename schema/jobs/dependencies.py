"""Jobs that wait for other jobs: the table of dependencies, and the release of waiting jobs.

A job that waits is queued and due at infinity. Whatever ends a parent also settles the dependencies
on it, in the same statement, by a trigger, so that no end can be missed. `release_waiting_jobs`
then makes the jobs due whose parents have all ended as they had to, and fails those with one that
did not. Parents are older than their children, so there are no cycles.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Index, text
from sqlmodel import Field

from schema.db.base import TEXT, Record, check_in_enum, with_server_default
from schema.db.database import Transaction


class DependencyCondition(StrEnum):
    """Which end of a parent lets a job begin."""

    SUCCESS = "success"
    FINISH = "finish"
    """Any."""


class DependencyState(StrEnum):
    """Whether a job still waits for one parent."""

    WAITING = "waiting"
    MET = "met"
    UNMET = "unmet"
    """The parent did not end as it had to."""


class JobDependency(Record):
    """One job waits, or waited, for another of the same subject's."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    parent_id: UUID = Field(primary_key=True)
    """Not a foreign key: a child outlives its parent."""
    subject_id: str = Field(sa_type=TEXT)
    on_end: DependencyCondition = Field(sa_type=TEXT)
    state: DependencyState = Field(sa_type=TEXT)
    told: bool = Field(default=False, sa_column_kwargs=with_server_default("false"))
    """Whether `release_waiting_jobs` has looked at its job since it was settled."""


class JobDependencyTable(JobDependency, table=True):
    """The rows."""

    __table_args__ = (
        check_in_enum("on_end", DependencyCondition),
        check_in_enum("state", DependencyState),
        Index("ix_job_dependency_parent", "parent_id", postgresql_where=text("state = 'waiting'")),
        Index(
            "ix_job_dependency_untold",
            "job_id",
            postgresql_where=text("state <> 'waiting' AND NOT told"),
        ),
    )


class ParentJob(BaseModel):
    """A job that another one waits or waited for, as a view of that one shows it."""

    job_id: UUID
    on: DependencyCondition
    state: DependencyState


_RELEASE_WAITING_JOBS: Final = """
WITH settled AS MATERIALIZED (
    SELECT DISTINCT job_id
      FROM (SELECT job_id
              FROM job_dependency
             WHERE state <> 'waiting'
               AND NOT told
             LIMIT $1) AS some_of
), before AS MATERIALIZED (
    SELECT job.id
      FROM job
      JOIN settled ON settled.job_id = job.id
     ORDER BY job.id
       FOR UPDATE OF job SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT before.id, bool_and(wait.state = 'met') AS ready,
           min(wait.parent_id::text) FILTER (WHERE wait.state = 'unmet')::uuid AS failed
      FROM before
      JOIN job_dependency AS wait ON wait.job_id = before.id
     GROUP BY before.id
), moved AS (
    UPDATE job
       SET state = CASE WHEN judged.failed IS NULL THEN 'queued' ELSE 'failed' END,
           due_at = CASE WHEN judged.failed IS NULL THEN now() END,
           reason = CASE WHEN judged.failed IS NOT NULL THEN 'dependency_failed' END,
           message = (
               SELECT write_handle('job', judged.failed) || ' '
                      || coalesce((SELECT concat_ws(' as ', parent.state, parent.reason)
                                     FROM job AS parent
                                    WHERE parent.id = judged.failed),
                                  'did not succeed') || '.'
                WHERE judged.failed IS NOT NULL),
           finished_at = CASE WHEN judged.failed IS NOT NULL THEN now() END,
           version = version + 1
      FROM judged
     WHERE job.id = judged.id
       AND job.state = 'queued'
       AND job.due_at = 'infinity'
       AND (judged.ready OR judged.failed IS NOT NULL)
    RETURNING job.*
), counted AS (
    UPDATE subject
       SET queued = queued - failed.jobs
      FROM (SELECT subject_id, count(*)::int AS jobs
              FROM moved
             WHERE state = 'failed'
             GROUP BY 1) AS failed
     WHERE subject.id = failed.subject_id
), told AS (
    UPDATE job_dependency AS wait
       SET told = true
      FROM before
     WHERE wait.job_id = before.id
       AND wait.state <> 'waiting'
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, CASE state WHEN 'queued' THEN 'released' ELSE 'expired' END, state, $2,
           jsonb_strip_nulls(jsonb_build_object('reason', reason, 'message', message))
      FROM moved
)
SELECT count(*) FILTER (WHERE state = 'queued') AS released,
       (SELECT count(*) FROM before) AS seen
  FROM moved
"""


def filter_waiting_parents(parents: Iterable[ParentJob] | None) -> list[ParentJob]:
    """Return the parents that still keep a job from beginning."""
    return [parent for parent in parents or () if parent.state is DependencyState.WAITING]


_BATCH_JOBS: Final = 100


async def release_waiting_jobs(tx: Transaction, *, worker: str) -> tuple[bool, bool]:
    """Make jobs due whose parents have ended, and fail those that could never begin.

    Returns:
        Whether any job may begin now, and whether there may be more to look at.
    """
    row = await tx.fetchrow(_RELEASE_WAITING_JOBS, _BATCH_JOBS, worker)
    assert row is not None  # noqa: S101  # a sum is always one row
    return row["released"] > 0, row["seen"] == _BATCH_JOBS
