"""The guards the database keeps by itself, in the migrations."""

from typing import Final

from tests.mutants.mutant import in_file

_LIFECYCLE: Final = "tests/schema/test_lifecycle.py"
_RUNS: Final = "tests/schema/test_remote_run.py"
_ISOLATION: Final = "tests/schema/test_isolation.py"

TABLES: Final = (
    *in_file(
        "alembic/versions/20261121_0002_guard_the_moves.py",
        _LIFECYCLE,
        final_job_stays_final=("IF OLD.finished_at IS NOT NULL\n     AND", "IF false AND"),
        version_rises_by_one=("NEW.version <> OLD.version + 1", "false"),
        attempts_only_grow=("NEW.attempt < OLD.attempt", "false"),
        cancel_is_never_taken_back=(
            "IF OLD.cancel_requested_at IS NOT NULL\n     AND",
            "IF false AND",
        ),
        job_moves_as_drawn=(
            "IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (\n      ('queued'",
            "IF false AND (OLD.state, NEW.state) NOT IN (\n      ('queued'",
        ),
    ),
    *in_file(
        "alembic/versions/20261121_0003_set_deadlines_and_tell_requests_again.py",
        _RUNS,
        open_run_is_not_forgotten=(
            "IF OLD.state IN ('posting', 'unknown', 'bound') THEN",
            "IF false THEN",
        ),
        run_moves_as_drawn=(
            "IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (\n      ('posting'",
            "IF false AND (OLD.state, NEW.state) NOT IN (\n      ('posting'",
        ),
        run_ends_after_it_was_bound=("AND OLD.kind = 'hub_job' THEN", "AND false THEN"),
        remote_id_is_written_once=("IF OLD.remote_id IS NOT NULL AND", "IF false AND"),
        kill_order_is_never_taken_back=("IF OLD.desired = 'dead' AND", "IF false AND"),
    ),
    *in_file(
        "alembic/versions/20261121_0001_create_the_tables.py",
        _RUNS,
        one_open_launch=('["job_id"],\n        unique=True', '["job_id"],\n        unique=False'),
        one_run_an_attempt=(
            '["job_id", "attempt"],\n        unique=True',
            '["job_id", "attempt"],\n        unique=False',
        ),
    ),
    # Each table of a subject's has a wall that shows their own rows, and takes no others.
    *in_file(
        "alembic/versions/20261121_0004_wall_subjects_off.py",
        _ISOLATION,
        wall_stands=('op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")', "pass"),
        wall_is_forced=('op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")', "pass"),
        wall_lets_the_owner_in=(
            'op.execute(f"CREATE POLICY own ON {table} TO {TENANT} {own}")',
            "pass",
        ),
        wall_lets_workers_in=(
            "CREATE POLICY work ON {table} TO {WORKER} USING (true)",
            "CREATE POLICY work ON {table} TO {WORKER} USING (false)",
        ),
        wall_lets_analysts_in=(
            "FOR SELECT TO {ANALYST} USING (true)",
            "FOR SELECT TO {ANALYST} USING (false)",
        ),
        rows_are_shown_to_their_subject=(
            "USING ({own}) WITH CHECK ({own})",
            "USING (true) WITH CHECK ({own})",
        ),
        rows_are_written_by_their_subject=(
            "({own}) WITH CHECK ({own})",
            "({own}) WITH CHECK (true)",
        ),
        rows_of_a_job_are_shown_to_its_subject=(
            'f"EXISTS (SELECT FROM job WHERE job.id = {table}.job_id)"',
            '"true"',
        ),
        sealed_tokens_are_not_the_services=(
            '"GRANT SELECT (subject_id, token_sha,',
            '"GRANT SELECT (subject_id, sealed, token_sha,',
        ),
        requests_are_not_the_analysts=(
            '"job_event", "remote_run", "poll_group")\n\nMAKE',
            '"job_event", "remote_run", "poll_group", "job_payload")\n\nMAKE',
        ),
    ),
    *in_file(
        "alembic/versions/20261121_0005_keep_the_secrets_of_jobs.py",
        _ISOLATION,
        secrets_wall_stands=('op.execute("ALTER TABLE job_secret ENABLE ROW LEVEL SECURITY")', ""),
        secrets_wall_is_forced=(
            'op.execute("ALTER TABLE job_secret FORCE ROW LEVEL SECURITY")',
            "",
        ),
        secrets_are_their_subjects=("{TENANT} USING ({own})", "{TENANT} USING (true)"),
        secrets_are_kept_by_their_subject=("WITH CHECK ({own})", "WITH CHECK (true)"),
        sealed_secrets_are_not_the_services=(
            "GRANT SELECT (job_id, subject_id), INSERT",
            "GRANT SELECT, INSERT",
        ),
    ),
    *in_file(
        "alembic/versions/20261121_0006_count_calls.py",
        _ISOLATION,
        counts_wall_stands=('op.execute("ALTER TABLE call_window ENABLE ROW LEVEL SECURITY")', ""),
        counts_wall_is_forced=(
            'op.execute("ALTER TABLE call_window FORCE ROW LEVEL SECURITY")',
            "",
        ),
        counts_are_their_subjects=("{TENANT} USING ({own})", "{TENANT} USING (true)"),
        counts_are_kept_by_their_subject=("WITH CHECK ({own})", "WITH CHECK (true)"),
    ),
    *in_file(
        "alembic/versions/20261121_0009_keep_a_job_in_its_subjects_workspace.py",
        "tests/schema/test_isolation.py",
        a_workspace_is_the_subjects_own=(
            (
                'FOREIGN KEY (workspace_id, subject_id)"\n'
                '        " REFERENCES workspace (id, subject_id) NOT VALID'
            ),
            'FOREIGN KEY (workspace_id)"\n        " REFERENCES workspace (id) NOT VALID',
        ),
    ),
)
