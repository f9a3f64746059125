"""The guards of what is written down about people, and of who reads it."""

from typing import Final

from tests.mutants.mutant import in_file

_AUDIT: Final = "tests/schema/test_audit.py"
_CLIENT: Final = "tests/service/test_client.py"
_VIEWS: Final = "tests/schema/test_views.py"

RECORDS: Final = (
    *in_file(
        "alembic/versions/20261121_0007_note_who_did_what.py",
        _AUDIT,
        what_was_written_stays=(
            "RAISE EXCEPTION 'what stands in % is never changed', TG_TABLE_NAME;",
            "RETURN NEW;",
        ),
        events_stay_in_their_history=(
            "REVOKE UPDATE, DELETE ON job_event FROM",
            "GRANT UPDATE, DELETE ON job_event TO",
        ),
        nobody_notes_for_another=("WITH CHECK ({own})", "WITH CHECK (true)"),
        tenants_take_nothing_away=(
            "GRANT SELECT, INSERT ON audit_entry TO {TENANT}",
            "GRANT SELECT, INSERT, DELETE ON audit_entry TO {TENANT}",
        ),
    ),
    *in_file(
        "alembic/versions/20261121_0007_note_who_did_what.py",
        "tests/schema/test_isolation.py",
        entries_are_their_subjects=("{TENANT} USING ({own})", "{TENANT} USING (true)"),
    ),
    *in_file(
        "schema/jobs/retention.py",
        _AUDIT,
        entries_are_forgotten_when_they_are_old=(
            "FROM audit_entry WHERE at < now() - $1::interval",
            "FROM audit_entry WHERE at < now() + $1::interval",
        ),
        entries_are_forgotten_until_none_is_left=(
            "in {counts, entries, firings}",
            "in {counts, firings}",
        ),
    ),
    *in_file(
        "service/auth/client_info.py",
        _CLIENT,
        a_name_prints=("filter(str.isprintable, name)", "name"),
        a_name_is_bounded=(".strip()[:_LONGEST].strip()", ".strip()"),
        a_request_names_its_client=(
            'return readable(f"{info.name} {info.version}")',
            "return None",
        ),
    ),
    *in_file(
        "alembic/versions/20261121_0008_show_jobs_to_people.py",
        _VIEWS,
        jobs_are_shown_as_whoever_asks_may_see_them=(
            "CREATE VIEW v_job WITH (security_invoker = true) AS",
            "CREATE VIEW v_job AS",
        ),
        the_story_leaves_out_what_upstream_said=("'{client,message}'", "'{client}'"),
    ),
)
