"""Topics of a subscription: resource URIs and task ids, parsed."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from schema.common import ids
from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.jobs.queries import JobStatus

_URI_PATTERN: Final = re.compile(r"(?P<scheme>job|workspace)://(?P<handle>[^/?#]+)(?P<logs>/logs)?")


class TopicKind(StrEnum):
    """What kind of notification a topic gets."""

    JOB = "job"
    LOG = "log"
    WORKSPACE = "workspace"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class SubscriptionTopic:
    """One thing that a client subscribes to."""

    text: str
    """The URI or the task id, as the client wrote it."""
    kind: TopicKind
    entity_id: UUID
    """The id of the job, or of the workspace."""

    def is_final(self, job: JobStatus | None) -> bool:
        """Whether no notification can follow; `job` is None if the job no longer exists."""
        if job is None:
            return True  # its retention has ended
        return job.finished_at is not None if self.kind is TopicKind.TASK else job.is_settled


def parse_resource_uri(text: str) -> SubscriptionTopic | None:
    """Parse the URI of a resource; None if it is not one of ours."""
    match = _URI_PATTERN.fullmatch(text)
    if match is None:
        return None
    if match["scheme"] == "workspace":
        return None if match["logs"] else _parse_topic(text, TopicKind.WORKSPACE, match["handle"])
    return _parse_topic(text, TopicKind.LOG if match["logs"] else TopicKind.JOB, match["handle"])


def parse_task_id(text: str) -> SubscriptionTopic | None:
    """Parse the id of a task; None if it cannot be one."""
    return _parse_topic(text, TopicKind.TASK, text)


def _parse_topic(text: str, topic_kind: TopicKind, handle: str) -> SubscriptionTopic | None:
    kind = HandleKind.WORKSPACE if topic_kind is TopicKind.WORKSPACE else HandleKind.JOB
    try:
        return SubscriptionTopic(text, topic_kind, ids.parse_handle(kind, handle))
    except Invalid:
        return None
