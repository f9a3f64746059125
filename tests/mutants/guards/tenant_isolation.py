"""Guards between two callers, apart from row-level security.

A statement that does not compare the subject is no mutant here: Postgres shows nothing anyway, and
`tests/schema/accounts/test_row_security_of_statements.py` proves that.
"""

from typing import Final

from schema.accounts import personal_data
from schema.db import database
from schema.jobs.retention import erasure
from service import app as service_app
from service.http import middleware
from service.jobs import operations as job_operations
from service.mcp import tool as mcp_tool
from service.runtime import shared_reads
from tests.mutants.mutant import mutants_in_file
from tests.operate import test_pooler
from tests.schema.accounts import test_personal_data
from tests.schema.jobs import test_erasure
from tests.service.mcp.tools import test_tenant_isolation
from tests.service.runtime import test_shared_reads

TENANT_ISOLATION_GUARDS: Final = (
    *mutants_in_file(
        shared_reads,
        test_shared_reads,
        no_read_is_shared_by_two_subjects=("shared_key = (subject_id, key)", "shared_key = key"),
        read_under_way_is_not_shared=(
            "                self._begin(shared_key, pending)\n                value",
            "                value",
        ),
    ),
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
        pooled_statement_takes_its_role=(
            "if self._is_pooled or not self._is_wall_seen:",
            "if not self._is_wall_seen:",
        ),
        wall_is_looked_at=('if row["has_tables"] and not row["has_wall"]:', "if False:"),
    ),
    *mutants_in_file(
        personal_data,
        test_personal_data,
        export_acts_for_its_subject=(
            "                await act_as_subject(tx, subject_id)\n",
            "                await tx.execute('RESET ROLE')\n",
        ),
        digests_of_secrets_stay=(
            '_HIDDEN_COLUMNS: Final = ("digest", "secrets_digest")',
            '_HIDDEN_COLUMNS: Final = ("digest",)',
        ),
    ),
    *mutants_in_file(
        erasure,
        test_erasure,
        only_jobs_of_the_subject_are_erased=(
            "     WHERE subject_id = $1\n       AND {IS_DELETABLE_SQL}",
            "     WHERE $1::text IS NOT NULL\n       AND {IS_DELETABLE_SQL}",
        ),
        only_items_of_the_subject_are_erased=(
            "            WHERE job.subject_id = $1\n              AND job.finished_at",
            "            WHERE $1::text IS NOT NULL\n              AND job.finished_at",
        ),
        only_entries_of_the_subject_are_erased=(
            "FROM audit_entry WHERE subject_id = $1 LIMIT $2",
            "FROM audit_entry WHERE $1::text IS NOT NULL LIMIT $2",
        ),
        erased_person_is_not_named=("subject_id=ERASED_SUBJECT", "subject_id=subject_id"),
        watched_launch_is_open_work=(
            "self.open_runs or self.watched_until or",
            "self.open_runs or",
        ),
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
