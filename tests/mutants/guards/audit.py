"""Guards of the audit trail: what is written about people, and who reads it."""

from typing import Final

from schema.jobs.retention import pruning
from service.auth import client_info
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.mutants.row_security import checks_nothing_of, shows_all_of
from tests.schema.accounts import test_audit, test_row_security
from tests.schema.db import test_analyst_views
from tests.service.auth import test_client_info

_ROW_SECURITY: Final = ALEMBIC / "sql/0001/row_security.sql"

AUDIT_GUARDS: Final = (
    *mutants_in_file(
        ALEMBIC / "sql/0001/transition_guards.sql",
        test_audit,
        what_was_written_stays=(
            "RAISE EXCEPTION 'what stands in % is never changed', TG_TABLE_NAME;",
            "RETURN NEW;",
        ),
    ),
    *mutants_in_file(
        _ROW_SECURITY,
        test_audit,
        events_stay_in_their_history=(
            "GRANT SELECT, INSERT ON job_event TO holdfast_worker;",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON job_event TO holdfast_worker;",
        ),
        nobody_notes_for_another=checks_nothing_of("audit_entry"),
        tenants_take_nothing_away=(
            "GRANT SELECT, INSERT ON audit_entry TO holdfast_tenant;",
            "GRANT SELECT, INSERT, DELETE ON audit_entry TO holdfast_tenant;",
        ),
    ),
    *mutants_in_file(
        _ROW_SECURITY,
        test_row_security,
        entries_are_their_subjects=shows_all_of("audit_entry"),
    ),
    *mutants_in_file(
        pruning,
        test_audit,
        entries_are_forgotten_when_they_are_old=(
            "FROM audit_entry WHERE at < now() - $1::interval",
            "FROM audit_entry WHERE at < now() + $1::interval",
        ),
        entries_are_forgotten_until_none_is_left=(
            "await tx.execute(_PRUNE_AUDIT, periods.audit, _BATCH_ROWS),",
            "str(await tx.execute(_PRUNE_AUDIT, periods.audit, _BATCH_ROWS))[:6],",
        ),
    ),
    *mutants_in_file(
        client_info,
        test_client_info,
        a_name_prints=("filter(str.isprintable, name)", "name"),
        a_name_is_bounded=(".strip()[:_MAX_NAME_CHARS].strip()", ".strip()"),
        a_request_names_its_client=(
            'return printable_name(f"{client.name} {client.version}")',
            "return None",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/views.sql",
        test_analyst_views,
        jobs_are_shown_as_whoever_asks_may_see_them=(
            "CREATE VIEW v_job WITH (security_invoker = true) AS",
            "CREATE VIEW v_job AS",
        ),
        the_story_leaves_out_what_upstream_said=("'{client,message}'", "'{client}'"),
    ),
)
