"""Guards between two callers, apart from row-level security.

A statement that does not compare the subject is no mutant here: Postgres shows nothing anyway, and
`tests/schema/accounts/test_row_security_of_statements.py` proves that.
"""

from typing import Final

from schema.db import database
from service import app as service_app
from service.http import middleware
from service.jobs import operations as job_operations
from service.mcp import tool as mcp_tool
from tests.mutants.mutant import mutants_in_file
from tests.operate import test_pooler
from tests.service.mcp.tools import test_tenant_isolation

TENANT_ISOLATION_GUARDS: Final = (
    *mutants_in_file(
        service_app,
        test_tenant_isolation,
        service_is_a_tenant=("            role=DatabaseRole.TENANT,\n", ""),
    ),
    *mutants_in_file(
        database,
        test_pooler,
        role_ends_with_its_transaction=('f"SET LOCAL {name}', 'f"SET {name}'),
        dropped_role_is_noticed=('if row["role"] != self._role:', "if False:"),
        wall_is_looked_at=('if row["has_tables"] and not row["has_wall"]:', "if False:"),
    ),
    *mutants_in_file(
        job_operations,
        test_tenant_isolation,
        no_workspace_is_not_found=('raise NotFound("workspace", handle)', "raise Conflict(handle)"),
    ),
    *mutants_in_file(
        mcp_tool,
        test_tenant_isolation,
        unknown_arguments_are_refused=(
            'model_config["extra"] = "forbid"',
            'model_config["extra"] = "ignore"',
        ),
        unknown_arguments_of_a_launch_are_refused=('extra="forbid"', 'extra="ignore"'),
    ),
    *mutants_in_file(
        middleware,
        test_tenant_isolation,
        first_token_wins=(
            '("authorization", "x-hf-authorization")',
            '("x-hf-authorization", "authorization")',
        ),
    ),
)
