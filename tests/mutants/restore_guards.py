"""Guards of backups, of restores, and of what is launched after one."""

from typing import Final

from schema.accounts import credentials, restored_subjects, vault_keys
from schema.db.backup import connection, dump, load
from schema.jobs import adoption, deadlines, run_launch
from schema.schedules import firing
from tests.mutants.mutant import mutants_in_file
from tests.operate import test_reconcile
from tests.schema.accounts import test_restored_subjects
from tests.schema.db.backup import test_restore
from tests.service import test_database
from workers.loops import restored_subjects as restored_loop

_IS_RESTORED: Final = """restored.subject_id = {}
                  AND restored.reconciled_at IS NULL)"""

RESTORE_GUARDS: Final = (
    *mutants_in_file(
        connection,
        test_restore,
        backup_is_of_one_moment=('isolation="repeatable_read" if', 'isolation="read_committed" if'),
    ),
    *mutants_in_file(
        dump,
        test_restore,
        hidden_rows_are_missed=(
            "if hidden := await connection.fetch(_FIND_HIDDEN_TABLES, tables, _ROLE):",
            "if hidden := list[dict[str, str]]():",
        ),
        another_release_is_not_backed_up=(
            "if revision is None or revision != head_revision():",
            "if revision is None:",
        ),
        sequences_go_on=(
            '("audit_entry_id_seq", "usage_history_id_seq")',
            '("audit_entry_id_seq",)',
        ),
    ),
    *mutants_in_file(
        load,
        test_restore,
        restore_never_merges=("    if filled:", "    if False:"),
        restore_needs_stopped_workers=("    if workers:\n", "    if False:\n"),
        requests_are_in_doubt_again=(
            "        await connection.execute(_LAPSE_REQUESTS, settle_window)\n",
            "",
        ),
        restore_raises_the_wall=(
            "FORCE ROW LEVEL SECURITY; ANALYZE",
            "ENABLE ROW LEVEL SECURITY; ANALYZE",
        ),
        restore_connects_nobody=(
            "        await connection.execute(_DISCONNECT_ACCOUNTS)\n",
            "",
        ),
        restored_labels_can_be_looked_up=(
            "        await connection.execute(_COPY_LABELS)\n",
            "",
        ),
        restore_sets_the_triggers=("} ENABLE TRIGGER USER; ", "} DISABLE TRIGGER USER; "),
        restore_marks_subjects=('        await finish(cast("Transaction", connection))\n', ""),
    ),
    *mutants_in_file(
        run_launch,
        test_restored_subjects,
        restored_jobs_are_not_claimed=(
            _IS_RESTORED.format("subject.id"),
            "false)",
        ),
    ),
    *mutants_in_file(
        firing,
        test_restored_subjects,
        restored_schedules_do_not_fire=(_IS_RESTORED.format("schedule.subject_id"), "false)"),
    ),
    *mutants_in_file(
        deadlines,
        test_restored_subjects,
        restored_jobs_are_not_given_up=(_IS_RESTORED.format("job.subject_id"), "false)"),
    ),
    *mutants_in_file(
        credentials,
        test_restored_subjects,
        restored_tokens_stay=(
            (
                "restored.subject_id = credential.subject_id\n"
                "              AND restored.reconciled_at IS NULL)"
            ),
            "false)",
        ),
    ),
    *mutants_in_file(
        restored_subjects,
        test_restored_subjects,
        three_listings_are_needed=(
            "listings + 1 >= :min_listings",
            "listings + 1 > 0 * :min_listings",
        ),
        window_is_waited_for=(
            "AND :listed_from >= restored_at + :settle_window THEN",
            "AND :listed_from::timestamptz IS NOT NULL THEN",
        ),
        one_comparison_counts=(
            "   AND due_at = :lapses_at\n",
            "   AND :lapses_at::timestamptz IS NOT NULL\n",
        ),
        dry_run_takes_no_lease=(
            "CASE WHEN :is_dry_run::boolean",
            "CASE WHEN false AND :is_dry_run::boolean",
        ),
        clocks_of_two_databases_differ=(
            "return max(self.backup_at, self.restored_at)",
            "return self.restored_at",
        ),
    ),
    *mutants_in_file(
        restored_loop,
        test_reconcile,
        other_deployments_are_left_alone=(
            "and (job.labels or {}).get(SERVER_LABEL) == str(deployment_id)",
            "",
        ),
        jobs_of_others_are_left_alone=("and job.created_by.id == account.id", ""),
        edited_labels_are_left_alone=("or run_name != labels.get(RUN_LABEL)", ""),
        older_jobs_are_left_alone=(
            "    if created_at < lease.backup_at - _ID_SLACK:",
            "    if False:",
        ),
        orphan_is_stopped=(
            (
                "await adoption.record_orphan(tx, run, earliest=lease.backup_at)\n"
                "    return RunAction.K"
            ),
            "return RunAction.K",
        ),
        earlier_run_is_settled=("if known.doubtful_run_id is not None:", "if False:"),
        calls_are_not_repeated=("await _end_restore(tx, comparison)", "pass"),
    ),
    *mutants_in_file(
        adoption,
        test_reconcile,
        log_with_lost_secrets_is_withheld=("WHERE :has_secrets", "WHERE false AND :has_secrets"),
    ),
    *mutants_in_file(
        vault_keys,
        test_database,
        new_key_under_an_old_id_is_noticed=("    if others:", "    if False:"),
    ),
)
