"""Guards in the migrations, which the database keeps by itself, and in how it is reached."""

from typing import Final

from schema.common.urls import parts, postgres, redis
from schema.db import privileges, replay, revisions
from schema.jobs import queries
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.mutants.row_security import checks_nothing_of, shows_all_of
from tests.operate import (
    test_killed_migrations,
    test_migrate_privileges,
    test_server_urls,
)
from tests.schema import test_interrupted_migrations
from tests.schema.accounts import test_row_security
from tests.schema.common.urls import test_postgres, test_redis
from tests.schema.db import test_migrations, test_replay
from tests.schema.jobs import (
    test_fair_claims,
    test_labels,
    test_lifecycle,
    test_query_plans,
    test_run_tables,
)

_TABLES: Final = ALEMBIC / "sql/0001/tables.sql"
_GUARDS: Final = ALEMBIC / "sql/0001/transition_guards.sql"
_ROW_SECURITY: Final = ALEMBIC / "sql/0001/row_security.sql"
_WORKSPACE: Final = "fk_job_workspace_id_subject_id_workspace\n        FOREIGN KEY"

MIGRATION_GUARDS: Final = (
    *mutants_in_file(
        queries,
        test_query_plans,
        rarest_label_is_looked_up=(
            "jsonb_object_keys(:labels)) > 1",
            "jsonb_object_keys(:labels)) > 9",
        ),
    ),
    *mutants_in_file(
        queries,
        test_labels,
        all_labels_are_compared=("              AND job.labels @> :labels\n", ""),
        page_of_a_label_goes_on=(
            "labelled.job_id < coalesce(:before",
            "labelled.job_id <> coalesce(:before",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/label_copies.sql",
        test_labels,
        labels_are_never_changed=(
            "RAISE EXCEPTION 'the labels of job % are never changed', OLD.id;",
            "RETURN NEW;",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/row_security.sql",
        test_labels,
        labels_are_written_by_their_subject=checks_nothing_of("job_label"),
        labels_stay_with_their_job=(
            "GRANT SELECT, INSERT ON job_label TO holdfast_tenant;",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON job_label TO holdfast_tenant;",
        ),
    ),
    *mutants_in_file(
        replay,
        test_replay,
        nothing_is_repeated_after_another_answer=("!= answer:", "is None:"),
        a_repeated_change_is_reported_once=("        self._on_rollback()\n", ""),
        what_came_before_is_repeated=("in self._answers:", "in self._answers[:0]:"),
    ),
    *mutants_in_file(
        revisions,
        test_migrations,
        a_release_that_is_too_old_stops=(
            "return self.compatible_from in known_revisions()",
            "return True",
        ),
        look_at_a_database_that_hangs_ends=(
            "asyncio.timeout(2 * _GLANCE_TIMEOUT.total_seconds())",
            "asyncio.timeout(None)",
        ),
        connection_that_hangs_is_dropped=("        connection.terminate()", "        pass"),
    ),
    *mutants_in_file(
        _GUARDS,
        test_lifecycle,
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
    *mutants_in_file(
        _GUARDS,
        test_fair_claims,
        # Otherwise the count is as old as the statement, and misses what was claimed since.
        room_is_counted_under_the_lock=("LANGUAGE sql VOLATILE", "LANGUAGE sql STABLE"),
    ),
    *mutants_in_file(
        _GUARDS,
        test_run_tables,
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
    *mutants_in_file(
        _TABLES,
        test_run_tables,
        one_open_launch=("CREATE UNIQUE INDEX one_open_launch", "CREATE INDEX one_open_launch"),
        one_run_an_attempt=(
            "CREATE UNIQUE INDEX one_run_an_attempt",
            "CREATE INDEX one_run_an_attempt",
        ),
    ),
    # A policy of each table of a subject shows the subject's rows only, and accepts no others.
    *mutants_in_file(
        _ROW_SECURITY,
        test_row_security,
        wall_stands=("ALTER TABLE job ENABLE ROW LEVEL SECURITY;", ""),
        wall_is_forced=("ALTER TABLE job FORCE ROW LEVEL SECURITY;", ""),
        wall_lets_the_owner_in=(
            "CREATE POLICY own ON job TO holdfast_tenant\n    USING (subject_id",
            "CREATE POLICY own ON job TO holdfast_tenant\n    USING (false AND subject_id",
        ),
        wall_lets_workers_in=(
            "CREATE POLICY work ON job TO holdfast_worker USING (true)",
            "CREATE POLICY work ON job TO holdfast_worker USING (false)",
        ),
        wall_lets_analysts_in=(
            "ON job FOR SELECT TO holdfast_analyst USING (true)",
            "ON job FOR SELECT TO holdfast_analyst USING (false)",
        ),
        rows_are_shown_to_their_subject=shows_all_of("job"),
        rows_are_written_by_their_subject=checks_nothing_of("job"),
        rows_of_a_job_are_shown_to_its_subject=(
            "EXISTS (SELECT FROM job WHERE job.id = job_event.job_id)",
            "true",
        ),
        sealed_tokens_are_not_the_services=(
            "GRANT SELECT (subject_id, token_sha,",
            "GRANT SELECT (subject_id, sealed, token_sha,",
        ),
        requests_are_not_the_analysts=(
            "GRANT SELECT, INSERT ON job_payload TO holdfast_tenant;",
            "GRANT SELECT, INSERT ON job_payload TO holdfast_tenant, holdfast_analyst;",
        ),
        secrets_wall_stands=("ALTER TABLE job_secret ENABLE ROW LEVEL SECURITY;", ""),
        secrets_wall_is_forced=("ALTER TABLE job_secret FORCE ROW LEVEL SECURITY;", ""),
        labels_are_their_subjects=shows_all_of("job_label"),
        secrets_are_their_subjects=shows_all_of("job_secret"),
        secrets_are_kept_by_their_subject=checks_nothing_of("job_secret"),
        sealed_secrets_are_not_the_services=(
            "GRANT SELECT (job_id, subject_id), INSERT",
            "GRANT SELECT, INSERT",
        ),
        counts_wall_stands=("ALTER TABLE call_window ENABLE ROW LEVEL SECURITY;", ""),
        counts_wall_is_forced=("ALTER TABLE call_window FORCE ROW LEVEL SECURITY;", ""),
        counts_are_their_subjects=shows_all_of("call_window"),
        counts_are_kept_by_their_subject=checks_nothing_of("call_window"),
    ),
    *mutants_in_file(
        _TABLES,
        test_row_security,
        a_workspace_is_the_subjects_own=(
            f"{_WORKSPACE} (workspace_id, subject_id) REFERENCES workspace (id, subject_id)",
            f"{_WORKSPACE} (workspace_id) REFERENCES workspace (id)",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "env.py",
        test_interrupted_migrations,
        a_revision_is_one_transaction=(
            '"transaction_per_migration": True',
            '"transaction_per_migration": False',
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "env.py",
        test_killed_migrations,
        migrations_take_turns=("async with hold_turn(url), engine", "async with engine"),
        a_killed_migration_is_waited_for=(
            "    event.listen(connection",
            "    (lambda *_: None)(connection",
        ),
    ),
    *mutants_in_file(
        privileges,
        test_migrate_privileges,
        missing_roles_are_named=("    if absent:", "    if False:"),
        missing_grants_are_named=("    if ungranted:", "    if False:"),
        owners_are_compared=("if (owner := await", "if False and (owner := await"),
    ),
    *mutants_in_file(
        ALEMBIC / "versions/20261129_0001_baseline.py",
        test_interrupted_migrations,
        a_lost_connection_is_named=("            bind.invalidate()\n", "            pass\n"),
    ),
    *mutants_in_file(
        ALEMBIC / "versions/20261129_0001_baseline.py",
        test_migrations,
        a_revision_reads_its_own_folder=('/ "sql" / revision', '/ "sql" / "0001"'),
    ),
    *mutants_in_file(
        postgres,
        test_server_urls,
        channel_binding_verifies=(
            'mode = "verify-full"\n    if authority == _SYSTEM:',
            "pass\n    if authority == _SYSTEM:",
        ),
        several_hosts_need_one_to_write=(
            "if attributes is None and len(hosts) > 1:",
            "if False:",
        ),
        next_host_is_tried=(
            "            except _NEXT_HOST_ERRORS as error:",
            "            except () as error:",
        ),
        host_that_answered_is_first=("self._last_host = number", "pass"),
    ),
    *mutants_in_file(
        postgres,
        test_postgres,
        unknown_parameters_are_refused=("    _refuse_unknown(parameters)", "    pass"),
    ),
    *mutants_in_file(
        parts,
        test_postgres,
        test_redis,
        piece_of_a_password_is_no_parameter=(
            'if "#" in rest or "@" in path or "@" in query:',
            'if "#" in rest:',
        ),
    ),
    *mutants_in_file(
        redis,
        test_server_urls,
        name_of_redis_is_compared=(
            'checks == "true" or (not checks and verification == "required")',
            'checks == "true"',
        ),
    ),
)
