"""The registry of all tables, and the metadata that Alembic compares with a database.

SQLModel knows a table only once its module has been imported, so whoever needs every table imports
this module. Add a new table here, or Alembic proposes to drop it.
"""

from typing import Final

from sqlmodel import SQLModel

from schema.accounts.audit import AuditEntryTable
from schema.accounts.call_counts import CallWindowTable
from schema.accounts.restored_subjects import DeploymentTable, RestoredSubjectTable
from schema.accounts.tables import ConnectedAccountTable, CredentialTable, SubjectTable
from schema.accounts.vault_keys import VaultKeyTable
from schema.artifacts.files import JobFileTable
from schema.artifacts.log_tables import JobLogTable, LogChunkTable
from schema.artifacts.upload_tables import JobUploadTable, UploadChunkTable, UploadTable
from schema.batches.tables import BatchItemTable
from schema.billing.tables import (
    JobCostTable,
    PriceListTable,
    SpendingTable,
    UsageHistoryTable,
)
from schema.jobs.dependencies import JobDependencyTable
from schema.jobs.monitoring.heartbeats import WorkerHeartbeatTable
from schema.jobs.run_tables import PollGroupTable, RemoteRunTable
from schema.jobs.tables import (
    IdempotencyKeyTable,
    JobEventTable,
    JobLabelTable,
    JobPayloadTable,
    JobSecretTable,
    JobTable,
    UnseenJobTable,
)
from schema.schedules.tables import ScheduleFiringTable, ScheduleSecretTable, ScheduleTable
from schema.workspaces.tables import (
    WebhookDeliveryTable,
    WebhookSecretTable,
    WebhookTargetTable,
    WorkspaceTable,
)

TABLES: Final[tuple[type[SQLModel], ...]] = (
    AuditEntryTable,
    BatchItemTable,
    CallWindowTable,
    ConnectedAccountTable,
    CredentialTable,
    DeploymentTable,
    IdempotencyKeyTable,
    JobCostTable,
    JobDependencyTable,
    JobEventTable,
    JobFileTable,
    JobLabelTable,
    JobLogTable,
    JobPayloadTable,
    JobSecretTable,
    JobTable,
    JobUploadTable,
    LogChunkTable,
    PollGroupTable,
    PriceListTable,
    RemoteRunTable,
    RestoredSubjectTable,
    ScheduleFiringTable,
    ScheduleSecretTable,
    ScheduleTable,
    SpendingTable,
    SubjectTable,
    UnseenJobTable,
    UploadChunkTable,
    UploadTable,
    UsageHistoryTable,
    VaultKeyTable,
    WebhookDeliveryTable,
    WebhookSecretTable,
    WebhookTargetTable,
    WorkerHeartbeatTable,
    WorkspaceTable,
)
"""Every table of the database, one class each."""

METADATA: Final = SQLModel.metadata
"""What the database should look like: complete, because this module imports every table."""
