"""The guards between two callers that are not behind the wall of the database.

A comparison of the subject that is missing in a statement would not be missed here: Postgres shows
nothing anyway, and `tests/schema/accounts/test_row_security_of_statements.py` holds it to that.
"""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_ATTACKS: Final = "tests/service/mcp/tools/test_tenant_isolation.py"

TENANT_ISOLATION_GUARDS: Final = (
    *mutants_in_file(
        "service/app.py",
        _ATTACKS,
        service_is_a_tenant=("                role=DatabaseRole.TENANT,\n", ""),
    ),
    *mutants_in_file(
        "service/jobs/operations.py",
        _ATTACKS,
        no_workspace_is_not_found=('raise NotFound("workspace", handle)', "raise Conflict(handle)"),
    ),
    *mutants_in_file(
        "service/mcp/tool.py",
        _ATTACKS,
        unknown_arguments_are_refused=(
            'model_config["extra"] = "forbid"',
            'model_config["extra"] = "ignore"',
        ),
        unknown_arguments_of_a_launch_are_refused=('extra="forbid"', 'extra="ignore"'),
    ),
    *mutants_in_file(
        "service/http/middleware.py",
        _ATTACKS,
        first_token_wins=(
            '("authorization", "x-hf-authorization")',
            '("x-hf-authorization", "authorization")',
        ),
    ),
)
