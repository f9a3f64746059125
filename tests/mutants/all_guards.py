"""All guards of the code that a test must miss."""

from typing import Final

from tests.mutants.guards.adoptions import ADOPTION_GUARDS
from tests.mutants.guards.audit import AUDIT_GUARDS
from tests.mutants.guards.calls import CALL_GUARDS
from tests.mutants.guards.connections import CONNECTION_GUARDS
from tests.mutants.guards.costs import COST_GUARDS
from tests.mutants.guards.dependencies import DEPENDENCY_GUARDS
from tests.mutants.guards.files import FILE_GUARDS
from tests.mutants.guards.identity import IDENTITY_GUARDS
from tests.mutants.guards.migrations import MIGRATION_GUARDS
from tests.mutants.guards.outputs import OUTPUT_GUARDS
from tests.mutants.guards.rate_limits import RATE_LIMIT_GUARDS
from tests.mutants.guards.redaction import REDACTION_GUARDS
from tests.mutants.guards.spending import SPENDING_GUARDS
from tests.mutants.guards.stdio import STDIO_GUARDS
from tests.mutants.guards.tenant_isolation import TENANT_ISOLATION_GUARDS
from tests.mutants.guards.tokens import TOKEN_GUARDS
from tests.mutants.guards.transitions import TRANSITION_GUARDS
from tests.mutants.guards.uploads import UPLOAD_GUARDS
from tests.mutants.guards.web import WEB_GUARDS
from tests.mutants.guards.webhooks import WEBHOOK_GUARDS
from tests.mutants.guards.workers import WORKER_GUARDS
from tests.mutants.guards.workspaces import WORKSPACE_GUARDS
from tests.mutants.restore_guards import RESTORE_GUARDS

ALL_GUARDS: Final = (
    *ADOPTION_GUARDS,
    *DEPENDENCY_GUARDS,
    *WORKSPACE_GUARDS,
    *FILE_GUARDS,
    *IDENTITY_GUARDS,
    *TRANSITION_GUARDS,
    *COST_GUARDS,
    *SPENDING_GUARDS,
    *WORKER_GUARDS,
    *RATE_LIMIT_GUARDS,
    *TOKEN_GUARDS,
    *CONNECTION_GUARDS,
    *WEBHOOK_GUARDS,
    *AUDIT_GUARDS,
    *MIGRATION_GUARDS,
    *TENANT_ISOLATION_GUARDS,
    *OUTPUT_GUARDS,
    *UPLOAD_GUARDS,
    *CALL_GUARDS,
    *REDACTION_GUARDS,
    *WEB_GUARDS,
    *RESTORE_GUARDS,
    *STDIO_GUARDS,
)
