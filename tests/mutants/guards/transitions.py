"""Guards of the transitions, and of the queues that share out due rows."""

from typing import Final

from schema.accounts import credentials, operator_actions
from schema.artifacts import files, log_store
from schema.db import database, grouped_writes
from schema.jobs import deadlines, lifecycle, run_end, run_launch, work_queues
from tests.mutants.mutant import mutants_in_file
from tests.schema.accounts import (
    test_credentials,
    test_operator_actions,
    test_refused_tokens,
    test_row_security,
)
from tests.schema.artifacts import test_files, test_log_store
from tests.schema.db import test_commit_statement, test_durability, test_grouped_writes
from tests.schema.jobs import (
    test_deadlines,
    test_fair_claims,
    test_lifecycle,
    test_races,
    test_run_end,
    test_run_launch,
    test_work_queues,
)
from tests.workers.loops import test_poll_runs

TRANSITION_GUARDS: Final = (
    # A run moves only from where the mover thinks it is.
    *mutants_in_file(
        run_launch,
        test_run_launch,
        bind_takes_an_open_run=(
            "run.id = :run_id\n       AND run.state IN ('posting', 'unknown')",
            "run.id = :run_id",
        ),
        doubt_takes_a_posting_run=(
            "run.state = 'posting'\n       AND (:only_if_lapsed",
            "true\n       AND (:only_if_lapsed",
        ),
        reject_takes_an_open_run=("ELSE run.state IN ('posting', 'unknown') END", "ELSE true END"),
        reject_decides_for_a_launch=(
            "before.state IN ('launching', 'running') AS decides",
            "true AS decides",
        ),
        bind_tells_of_the_kill_order=("SELECT desired = 'dead' FROM bound", "SELECT false"),
        bind_keeps_the_kill_order=("CASE run.desired WHEN 'dead' THEN now() END", "NULL"),
    ),
    *mutants_in_file(
        run_end,
        test_run_end,
        end_takes_a_bound_run=(
            "run.id = before.run_id\n       AND run.state = :expected_state",
            "run.id = before.run_id AND (run.state = :expected_state OR run.kind = 'hub_job')",
        ),
        end_of_surplus_decides_nothing=("= 'running' AND run.origin = 'ours'", "= 'running'"),
        relaunch_only_once=("earlier.state = 'absent' OR earlier.origin = 'surplus'", "false"),
        miss_waits_for_the_settle_window=(
            "misses >= $3 AND now() >= absent_after",
            "misses >= $3",
        ),
        miss_wants_enough_listings=("RETURNING misses >= $3", "RETURNING $3::int > 0"),
        absent_waits_for_the_settle_window=("AND now() >= run.absent_after\n       AND", "AND"),
        absent_wants_enough_listings=("AND run.misses >= :min_misses", "AND :min_misses::int > 0"),
        absent_is_watched_for=(
            "SET watch_until = excluded.watch_until",
            "SET watch_until = poll_group.watch_until",
        ),
    ),
    *mutants_in_file(
        run_end,
        test_run_launch,
        answer_takes_a_posting_call=(
            "run.id = before.run_id\n       AND run.state = :expected_state",
            "run.id = before.run_id AND (run.state = :expected_state OR run.kind <> 'hub_job')",
        ),
        answer_of_a_lapsed_call=(
            "(:only_if_lapsed::boolean IS FALSE OR run.due_at <= now())",
            ":only_if_lapsed IN (true, false)",
        ),
    ),
    # A lease is held until another worker has seen it lapse.
    *mutants_in_file(
        run_launch,
        test_run_launch,
        doubt_of_a_lapsed_run=(
            "(:only_if_lapsed::boolean IS FALSE OR run.due_at <= now())",
            ":only_if_lapsed IN (true, false)",
        ),
        reject_of_a_lapsed_run=(
            "THEN run.state = 'posting' AND run.due_at <= now()",
            "THEN run.state = 'posting'",
        ),
        begin_under_the_lease=(" AND run.due_at > now()", ""),
        renew_until_taken_over=(
            "AND state = 'posting'\n   AND desired = 'alive'\nRETURNING id",
            "AND desired = 'alive'\nRETURNING id",
        ),
        renew_until_called_off=("AND desired = 'alive'\nRETURNING id", "RETURNING id"),
    ),
    *mutants_in_file(
        run_end,
        test_poll_runs,
        last_run_is_listed_after=(
            "- ended.runs\n      FROM (SELECT subject_id, namespace",
            "- ended.runs, due_at = NULL FROM (SELECT subject_id, namespace",
        ),
    ),
    *mutants_in_file(
        run_launch,
        test_poll_runs,
        late_stage_is_a_change=("CASE WHEN :stage = 'SCHEDULING' THEN :stage END", ":stage"),
    ),
    *mutants_in_file(
        work_queues,
        test_poll_runs,
        absent_run_is_looked_for=("WHEN watch_until > now()\n", "WHEN false\n"),
        label_speaks_of_the_subjects_own_runs=(
            "WHERE subject_id = $1 AND namespace = $2 AND id = ANY",
            "WHERE $1 <> $2 AND id = ANY",
        ),
    ),
    *mutants_in_file(
        deadlines,
        test_deadlines,
        expire_takes_a_run_past_its_deadline=(
            "AND run.deadline_at + :overdue_by <= now()",
            "AND :overdue_by::interval IS NOT NULL",
        ),
        expire_orders_the_kill=(
            "SET desired = 'dead',\n           due_at = now()",
            "SET stage = run.stage",
        ),
        give_up_takes_what_waited_too_long=(
            "job.state = 'queued'\n       AND job.due_at + $1 <= now()",
            "job.state = 'queued' AND $1::interval IS NOT NULL",
        ),
        give_up_counts=("SET queued = queued - given_up.jobs", "SET queued = queued"),
    ),
    # A cancel is for good, and reaches whatever is open.
    *mutants_in_file(
        lifecycle,
        test_lifecycle,
        job_over_the_limit_is_refused=('if not row["counted"]:', "if False:"),
    ),
    *mutants_in_file(
        lifecycle,
        test_commit_statement,
        refused_submission_undoes_itself=(
            "OR (counted AND related AND entered AND held)",
            "OR counted IS NOT NULL",
        ),
        submission_acts_for_its_caller=(
            "set_config('holdfast.subject', :acting_subject_id, true)",
            "set_config('holdfast.subject', :subject_id, true)",
        ),
        submission_acts_in_its_transaction_only=(
            "set_config('holdfast.subject', :acting_subject_id, true)",
            "set_config('holdfast.subject', :acting_subject_id, false)",
        ),
        held_subject_renews_its_token=(
            " OR hold IS DISTINCT FROM 'credentials')",
            " OR true)",
        ),
    ),
    *mutants_in_file(
        database,
        test_commit_statement,
        lost_statement_is_in_doubt=(
            "if is_committed or (is_sent and not _is_rolled_back(error)):",
            "if is_committed:",
        ),
        statement_without_disk_is_in_doubt=(
            "if is_committed or (is_sent and",
            "if (is_sent and",
        ),
        undone_statement_is_not_reported=(
            "                    if row is not None and on_commit is not None:",
            "                    if on_commit is not None:",
        ),
    ),
    *mutants_in_file(
        lifecycle,
        test_lifecycle,
        cancel_is_the_owners=("\n       AND subject_id = $2\n       AND state IN", " AND state IN"),
        key_is_held_until_it_expires=("WHERE held.expires_at <= now()", "WHERE true"),
        open_jobs_are_limited=("queued + active < :max_open_jobs", ":max_open_jobs::int > 0"),
        launched_jobs_are_open=("queued + active < :max_open_jobs", "queued < :max_open_jobs"),
    ),
    *mutants_in_file(
        lifecycle,
        test_run_launch,
        cancel_dooms_the_open_run=(
            "run.job_id = called_off.id\n       AND run.state IN ('posting', 'unknown', 'bound')",
            "run.job_id = called_off.id AND false",
        ),
    ),
    *mutants_in_file(
        lifecycle,
        test_races,
        cancel_locks_the_job=("subject_id = $2 ORDER BY id FOR UPDATE", "subject_id = $2"),
    ),
    # Work is shared out without waiting, in turn, and within bounds.
    *mutants_in_file(
        run_launch,
        test_races,
        claim_passes_a_locked_subject=(
            "FOR UPDATE OF subject SKIP LOCKED",
            "FOR UPDATE OF subject",
        ),
        claim_passes_a_locked_job=(
            "FOR UPDATE SKIP LOCKED\n      ) AS next",
            "FOR UPDATE) AS next",
        ),
    ),
    *mutants_in_file(
        work_queues,
        test_races,
        runs_pass_a_locked_run=(
            "due_at\n     LIMIT $1\n       FOR UPDATE SKIP LOCKED",
            "due_at LIMIT $1 FOR UPDATE",
        ),
        groups_pass_a_locked_group=("FOR UPDATE OF polled SKIP LOCKED", "FOR UPDATE OF polled"),
        ends_of_polls_lock_in_one_order=("ORDER BY polled.subject_id, polled.namespace\n", ""),
    ),
    *mutants_in_file(
        credentials,
        test_races,
        groups_are_released_in_one_order=("ORDER BY namespace\n", ""),
    ),
    *mutants_in_file(
        work_queues,
        test_operator_actions,
        kill_goes_on_under_an_operators_hold=("OR subject.hold = 'operator'", "OR false"),
        refused_token_is_not_tried_under_a_hold=("AND credential.state = 'valid'", ""),
    ),
    *mutants_in_file(
        operator_actions,
        test_operator_actions,
        released_subject_still_lacks_a_token=("AND refused.state = 'refused'", "AND false"),
    ),
    *mutants_in_file(
        run_launch,
        test_fair_claims,
        longest_unserved_goes_first=(
            "ORDER BY last_served_at\n     LIMIT :limit +",
            "ORDER BY last_served_at DESC LIMIT :limit +",
        ),
        service_is_remembered=(
            "last_served_at = clock_timestamp()",
            "last_served_at = last_served_at",
        ),
        claim_stays_within_the_room=("least(served.room, room_of_kind(", "least(room_of_kind("),
        claim_wants_room=("AND active < {_MAX_ACTIVE}\n       ", ""),
        claim_stays_within_the_room_of_the_kind=(
            "room_of_kind(served.id, :kind, served.max_of_kind), ",
            "",
        ),
        who_has_no_room_of_the_kind_is_passed_over=(
            "AND coalesce(room_of_kind(subject.id, :kind, {_MAX_OF_KIND}), 1) > 0\n       ",
            "",
        ),
        a_limit_of_the_subject_counts_first=(
            "coalesce(subject.max_active_by_kind -> :kind::text,\n                ",
            "coalesce(",
        ),
        claim_leaves_a_slot=("slots <= :slots_per_free_one * (:limit - place)", "true"),
        claim_looks_beyond_holders=(" + cardinality(:holders::text[])", ""),
        claim_waits_while_the_subject_is_quiet=(
            "AND next_launch_at <= now()\n       AND NOT",
            "AND NOT",
        ),
        claim_waits_until_the_job_is_due=(
            "AND kind = :kind\n             AND due_at <= now()",
            "AND kind = :kind",
        ),
    ),
    # Without a token nothing is asked, and a refusal is about one token.
    *mutants_in_file(
        run_launch,
        test_credentials,
        claim_respects_a_hold=("queued > 0\n       AND hold IS NULL", "queued > 0"),
    ),
    *mutants_in_file(
        credentials,
        test_credentials,
        refusal_is_of_one_version=(
            "version = $2\n       AND state = 'valid'",
            "$2 > 0 AND state = 'valid'",
        ),
        refused_token_is_not_lent=(
            "credential\n WHERE subject_id = $1\n   AND state = 'valid'",
            "credential WHERE subject_id = $1",
        ),
        operators_hold_is_not_overwritten=(
            "refused.subject_id\n       AND subject.hold IS NULL",
            "refused.subject_id",
        ),
        operators_hold_is_not_released=(
            'WHERE id = $1\n       AND hold = \'credentials\'\n    """,\n)',
            'WHERE id = $1\n    """,\n)',
        ),
    ),
    *mutants_in_file(
        work_queues,
        test_work_queues,
        runs_respect_a_hold=("WHERE may_act", "WHERE true"),
        groups_respect_a_hold=(
            "polled.due_at <= now()\n       AND {_MAY_ACT}",
            "polled.due_at <= now()",
        ),
        run_is_taken_under_a_lease=("THEN $2 ELSE", "THEN 0 * $2::interval ELSE"),
        group_is_taken_under_a_lease=(
            "epoch + 1,\n       due_at = now() + $2",
            "epoch + 1, due_at = now() + 0 * $2::interval",
        ),
        kill_orders_go_first=("ORDER BY desired DESC, due_at", "ORDER BY due_at"),
        kill_is_repeated=(
            "kills + 1,\n       due_at = now() + $2",
            "kills + 1, due_at = now() + $2 + interval '9 hours'",
        ),
        lost_turn_is_not_given_back=(
            "AND polled.epoch = lease.epoch",
            "",
        ),
        lost_turn_is_not_postponed=(
            "WHERE subject_id = $1\n   AND namespace = $2\n   AND epoch = $3",
            "WHERE subject_id = $1 AND namespace = $2 AND $3::bigint > 0",
        ),
    ),
    # A move is written whole: its event, and what it adds to the counts.
    *mutants_in_file(
        lifecycle,
        test_lifecycle,
        created_event=(
            ":traceparent::text))\n      FROM made",
            ":traceparent::text))\n      FROM made WHERE false",
        ),
        cancelled_event=(
            "'request_id', $4::text))\n      FROM called_off",
            "'request_id', $4::text))\n      FROM called_off WHERE false",
        ),
        submit_counts=("queued = queued + 1", "queued = queued"),
        cancel_counts=("WHERE was = 'queued'", "WHERE false"),
    ),
    *mutants_in_file(
        run_launch,
        test_run_launch,
        subjects_take_turns=("ORDER BY slots, last_served_at", "ORDER BY last_served_at"),
        claimed_event=(
            "('attempt', attempt)\n      FROM claimed",
            "('attempt', attempt) FROM claimed WHERE false",
        ),
        begun_event=("state, $2 FROM begun", "state, $2 FROM begun WHERE false"),
        bound_event=(
            "'stage', :stage::text)\n      FROM moved",
            "'stage', :stage::text)\n      FROM moved WHERE false",
        ),
        unconfirmed_event=(
            "('why', :cause::text)\n      FROM moved",
            "('why', :cause::text) FROM moved WHERE false",
        ),
        rejected_event=(
            "('message', :message::text)\n      FROM moved",
            "('message', :message::text) FROM moved WHERE false",
        ),
        claim_counts=("active = active + taken.jobs", "active = active"),
        reject_counts=("active = active - 1", "active = active"),
    ),
    *mutants_in_file(
        run_end,
        test_run_end,
        ended_event=(
            "'cost_micro_usd', cost_micro_usd))\n      FROM moved",
            "'cost_micro_usd', cost_micro_usd))\n      FROM moved WHERE false",
        ),
        absent_event=(
            "'absent', state, :worker FROM moved",
            "'absent', state, :worker FROM moved WHERE false",
        ),
        surplus_event=(
            "('remote_id', $2::text)\n      FROM moved",
            "('remote_id', $2::text) FROM moved WHERE false",
        ),
        end_counts=("active = active - ended.runs", "active = active"),
        end_counts_the_live=("live = polled.live - ended.runs", "live = polled.live"),
        late_arrival_counts=("live = poll_group.live + 1", "live = poll_group.live"),
    ),
    *mutants_in_file(
        run_launch,
        test_run_end,
        bind_counts=("live = poll_group.live + 1", "live = poll_group.live"),
    ),
    *mutants_in_file(
        log_store,
        test_log_store,
        log_is_appended_once=("AND log_lines = :start_line", "AND :start_line >= 0"),
        log_of_a_run_that_is_over_is_closed=("       AND run.state = 'bound'\n", ""),
    ),
    *mutants_in_file(
        files,
        test_files,
        nothing_is_saved_of_a_run_that_is_over=("       AND run.state = 'bound'\n", ""),
    ),
    # What is answered is on disk, and one write fails alone.
    *mutants_in_file(
        database,
        test_durability,
        answer_waits_for_the_disk=(
            "       THEN pg_logical_emit_message(true, 'holdfast', '') END",
            "       THEN NULL END",
        ),
        refusal_waits_for_the_disk=('f"ROLLBACK; {_WAIT_FOR_DISK}"', '"ROLLBACK"'),
        statement_waits_for_the_disk=(
            "                    await connection.execute(_WAIT_FOR_DISK)\n",
            "",
        ),
    ),
    *mutants_in_file(
        database,
        test_row_security,
        role_that_may_not_wait_is_noticed=('if not row["may_wait_for_disk"]:', "if False:"),
        refused_role_is_told_why=(
            "except RoleRefused:  # it has seen",
            "except ImportError:  # it has seen",
        ),
    ),
    # Locks are taken in one order: job, run, subject, credential.
    *mutants_in_file(
        credentials,
        test_refused_tokens,
        subject_is_locked_before_its_token=(
            "WHERE subject_id = (SELECT id FROM locked)\n       AND version = $2",
            "WHERE subject_id = $1\n       AND version = $2",
        ),
        runs_are_locked_before_their_subject=(
            " FROM (SELECT count(*) FROM released) AS earlier",
            "",
        ),
        runs_are_locked_in_one_order=(
            "     ORDER BY id\n       FOR NO KEY UPDATE OF remote_run",
            "       FOR NO KEY UPDATE OF remote_run",
        ),
    ),
    *mutants_in_file(
        grouped_writes,
        test_grouped_writes,
        one_write_fails_alone=("if len(waiting) == 1:", "if waiting:"),
        group_has_no_job=(", context=Context()", ""),
    ),
    *mutants_in_file(
        run_launch,
        test_run_launch,
        expired_token_is_not_claimed=(
            " AND coalesce(lent.expires_at > now(), true)",
            "",
        ),
    ),
)
