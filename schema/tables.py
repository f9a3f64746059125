"""The registry of all tables, and the metadata that Alembic compares with a database.

SQLModel knows a table only once its module has been imported. Whoever needs every table imports
this module: a new table is added here, or Alembic would propose to drop it.
"""

from typing import Final

from sqlmodel import SQLModel

from schema.audit import AuditEntryTable
from schema.batch_item import BatchItemTable
from schema.calls import CallWindowTable
from schema.cost import JobCostTable, PriceListTable, SpendingTable
from schema.dependencies import JobDependencyTable
from schema.files import JobFileTable
from schema.job import (
    IdempotencyKeyTable,
    JobEventTable,
    JobPayloadTable,
    JobSecretTable,
    JobTable,
)
from schema.log import JobLogTable, LogChunkTable
from schema.remote_run import PollGroupTable, RemoteRunTable
from schema.schedule import ScheduleFiringTable, ScheduleSecretTable, ScheduleTable
from schema.subject import CredentialTable, SubjectTable
from schema.workspace import WorkspaceTable

TABLES: Final[tuple[type[SQLModel], ...]] = (
    AuditEntryTable,
    BatchItemTable,
    CallWindowTable,
    CredentialTable,
    IdempotencyKeyTable,
    JobCostTable,
    JobDependencyTable,
    JobEventTable,
    JobFileTable,
    JobLogTable,
    JobPayloadTable,
    JobSecretTable,
    JobTable,
    LogChunkTable,
    PollGroupTable,
    PriceListTable,
    RemoteRunTable,
    ScheduleFiringTable,
    ScheduleSecretTable,
    ScheduleTable,
    SpendingTable,
    SubjectTable,
    WorkspaceTable,
)
"""Every table of the database, one class each."""

METADATA: Final = SQLModel.metadata
"""What the database is meant to look like; complete, because this module imports every table."""
