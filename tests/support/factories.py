"""Types of the fixtures that make or do something each time a test calls them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from uuid import UUID

from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import Job

JobFactory = Callable[..., Awaitable[Job]]
WorkspaceFactory = Callable[..., Awaitable[UUID]]
ClaimFactory = Callable[..., Awaitable[list[ClaimedJob]]]
FailFirstCommit = Callable[[str], Awaitable[None]]
StartService = Callable[..., AbstractContextManager[str]]
