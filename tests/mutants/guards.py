"""Every guard there is to miss."""

from typing import Final

from tests.mutants.chains import DEPENDENCY_GUARDS
from tests.mutants.groups import WORKSPACE_GUARDS
from tests.mutants.identity import IDENTITY_GUARDS
from tests.mutants.limits import RATE_LIMIT_GUARDS
from tests.mutants.money import COST_GUARDS
from tests.mutants.moves import TRANSITION_GUARDS
from tests.mutants.outputs import OUTPUT_GUARDS
from tests.mutants.printed import REDACTION_GUARDS
from tests.mutants.records import AUDIT_GUARDS
from tests.mutants.tables import MIGRATION_GUARDS
from tests.mutants.tokens import TOKEN_GUARDS
from tests.mutants.wall import TENANT_ISOLATION_GUARDS
from tests.mutants.work import WORKER_GUARDS

ALL_GUARDS: Final = (
    *DEPENDENCY_GUARDS,
    *WORKSPACE_GUARDS,
    *IDENTITY_GUARDS,
    *TRANSITION_GUARDS,
    *COST_GUARDS,
    *WORKER_GUARDS,
    *RATE_LIMIT_GUARDS,
    *TOKEN_GUARDS,
    *AUDIT_GUARDS,
    *MIGRATION_GUARDS,
    *TENANT_ISOLATION_GUARDS,
    *OUTPUT_GUARDS,
    *REDACTION_GUARDS,
)
