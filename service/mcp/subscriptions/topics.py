"""What does somebody mean who names something that they want to hear of?"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from schema.common import ids
from schema.common.errors import Invalid
from schema.common.ids import Kind
from schema.jobs.queries import JobStatus

_URI: Final = re.compile(r"(?P<scheme>job|workspace)://(?P<handle>[^/?#]+)(?P<logs>/logs)?")


class Topic(StrEnum):
    """As what a thing is told of."""

    JOB = "job"
    LOG = "log"
    WORKSPACE = "workspace"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Address:
    """A thing that somebody named."""

    text: str
    """As they wrote it."""
    topic: Topic
    identity: UUID
    """Of the job, or of the workspace."""

    def is_over(self, job: JobStatus | None) -> bool:
        """Say whether nothing will have to be told of it any more, now that its job is so."""
        if job is None:
            return True  # its retention has ended
        return job.finished_at is not None if self.topic is Topic.TASK else job.settled


def read_uri(text: str) -> Address | None:
    """Read the address of a resource; none if it is not one of ours."""
    match = _URI.fullmatch(text)
    if match is None:
        return None
    if match["scheme"] == "workspace":
        return None if match["logs"] else _read(text, Topic.WORKSPACE, match["handle"])
    return _read(text, Topic.LOG if match["logs"] else Topic.JOB, match["handle"])


def read_task(text: str) -> Address | None:
    """Read the id of a task; none if it cannot be one."""
    return _read(text, Topic.TASK, text)


def _read(text: str, topic: Topic, handle: str) -> Address | None:
    kind = Kind.WORKSPACE if topic is Topic.WORKSPACE else Kind.JOB
    try:
        return Address(text, topic, ids.read(kind, handle))
    except Invalid:
        return None
