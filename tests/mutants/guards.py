"""Every guard there is to miss: what it says, and what the code would say without it."""

from collections.abc import Iterator
from typing import Final

from tests.mutants.mutant import Mutant

_LAUNCHES: Final = "tests/schema/test_launches.py"
_ENDINGS: Final = "tests/schema/test_endings.py"
_LIFECYCLE: Final = "tests/schema/test_lifecycle.py"
_ATTENTION: Final = "tests/schema/test_attention.py"
_CREDENTIALS: Final = "tests/schema/test_credentials.py"
_SHARING: Final = "tests/schema/test_sharing.py"
_RUNS: Final = "tests/schema/test_remote_run.py"
_RACES: Final = "tests/schema/test_races.py"
_LAUNCH: Final = "tests/workers/test_launch.py"
_NONCE: Final = "tests/workers/test_nonce.py"
_ATTEND: Final = "tests/workers/test_attend.py"
_OBSERVE: Final = "tests/workers/test_observe.py"
_YOUNG: Final = "tests/workers/test_young_runs.py"
_HUB: Final = "tests/workers/test_hub.py"


def _in(path: str, *tests: str, **guards: tuple[str, str]) -> Iterator[Mutant]:
    """Name the guards of one file that the same tests should miss: the text, and what instead."""
    for name, (text, instead) in guards.items():
        yield Mutant(name, path, text, instead, tests)


GUARDS: Final = (
    # A run moves only from where the mover thinks it is.
    *_in(
        "schema/launches.py",
        _LAUNCHES,
        bind_takes_an_open_run=(
            "run.id = $1 AND run.state IN ('posting', 'unknown')",
            "run.id = $1",
        ),
        doubt_takes_a_posting_run=("run.state = 'posting'\n       AND ($5", "true\n       AND ($5"),
        reject_takes_an_open_run=("ELSE run.state IN ('posting', 'unknown') END", "ELSE true END"),
        reject_decides_for_a_launch=(
            "before.state IN ('launching', 'running') AS decides",
            "true AS decides",
        ),
        bind_tells_of_the_kill_order=("SELECT desired = 'dead' FROM bound", "SELECT false"),
        bind_keeps_the_kill_order=("CASE run.desired WHEN 'dead' THEN now() END", "NULL"),
    ),
    *_in(
        "schema/endings.py",
        _ENDINGS,
        end_takes_a_bound_run=(
            "run.id = $1 AND run.state = $9",
            "run.id = $1 AND (run.state = $9 OR run.kind = 'hub_job')",
        ),
        end_of_surplus_decides_nothing=("= 'running' AND run.origin = 'ours'", "= 'running'"),
        relaunch_only_once=("earlier.state = 'absent' OR earlier.origin = 'surplus'", "false"),
        miss_waits_for_the_settle_window=(
            "misses >= $3 AND now() >= absent_after",
            "misses >= $3",
        ),
        miss_wants_enough_listings=("RETURNING misses >= $3", "RETURNING $3::int > 0"),
        absent_waits_for_the_settle_window=("AND now() >= run.absent_after AND", "AND"),
        absent_wants_enough_listings=("AND run.misses >= $2", "AND $2::int > 0"),
        absent_is_watched_for=(
            "SET watch_until = excluded.watch_until",
            "SET watch_until = poll_group.watch_until",
        ),
        watch_outlives_the_last_run=("polled.live > 1 OR polled.watch_until > now()", "false"),
    ),
    *_in(
        "schema/endings.py",
        _LAUNCHES,
        answer_takes_a_posting_call=(
            "run.id = $1 AND run.state = $9",
            "run.id = $1 AND (run.state = $9 OR run.kind <> 'hub_job')",
        ),
        answer_of_a_lapsed_call=(
            "($10::boolean IS FALSE OR run.due_at <= now())",
            "$10 IN (true, false)",
        ),
    ),
    # A lease is held until it lapses, and no longer.
    *_in(
        "schema/launches.py",
        _LAUNCHES,
        doubt_of_a_lapsed_run=(
            "($5::boolean IS FALSE OR run.due_at <= now())",
            "$5 IN (true, false)",
        ),
        reject_of_a_lapsed_run=(
            "THEN run.state = 'posting' AND run.due_at <= now()",
            "THEN run.state = 'posting'",
        ),
        begin_under_the_lease=(" AND run.due_at > now()", ""),
        renew_under_the_lease=("desired = 'alive' AND due_at > now()", "desired = 'alive'"),
        renew_until_called_off=("AND desired = 'alive' AND due_at", "AND due_at"),
    ),
    *_in(
        "workers/launch.py",
        _LAUNCH,
        no_request_after_the_lease=("if elapsed() - claimed_at >", "if -1 >"),
    ),
    # One request, found again by its nonce.
    *_in(
        "workers/executors/hub_job.py",
        _NONCE,
        label_names_the_run=("RUN_LABEL: str(order.run_id),", ""),
        label_is_not_the_callers=(
            "**order.labels,\n            APP_LABEL: APP,",
            "APP_LABEL: APP,",
        ),
        environment_names_the_run=("**spec.env, RUN_VARIABLE: str(order.run_id)", "**spec.env"),
    ),
    *_in(
        "workers/attend.py",
        _NONCE,
        another_environment_is_another_run=("named in (None, str(run.id))", "True"),
        copies_are_not_ours=("return not copied and", "return"),
    ),
    *_in(
        "workers/attend.py",
        _ATTEND,
        young_run_is_not_called_gone_when_killed=(
            "None if job is None and is_young(worker, run) else verdict(job)",
            "verdict(job)",
        ),
    ),
    *_in(
        "workers/observe.py",
        _YOUNG,
        young_run_is_not_called_gone_when_listed=("job is None and is_young(worker, run)", "False"),
    ),
    *_in(
        "workers/observe.py",
        _OBSERVE,
        strays_are_recorded=("    if not strays:", "    if strays:"),
    ),
    *_in(
        "schema/attention.py",
        _OBSERVE,
        label_speaks_of_the_subjects_own_runs=(
            "WHERE subject_id = $1 AND namespace = $2 AND id = ANY",
            "WHERE $1 <> $2 AND id = ANY",
        ),
    ),
    *_in(
        "schema/deadlines.py",
        "tests/schema/test_deadlines.py",
        expire_takes_a_run_past_its_deadline=(
            "AND run.deadline_at + $5 <= now()",
            "AND $5::interval IS NOT NULL",
        ),
        expire_orders_the_kill=("SET desired = 'dead', due_at = now()", "SET stage = run.stage"),
        give_up_takes_what_waited_too_long=(
            "job.state = 'queued' AND job.created_at + $1 <= now()",
            "job.state = 'queued' AND $1::interval IS NOT NULL",
        ),
        give_up_counts=("SET queued = queued - given_up.jobs", "SET queued = queued"),
    ),
    *_in(
        "workers/hub.py",
        _HUB,
        redirect_is_not_followed=("follow_redirects=False", "follow_redirects=True"),
        server_error_is_ambiguous=("response.status_code >= _SERVER_ERROR or", ""),
        unclear_refusal_is_ambiguous=("or response.status_code in _UNCLEAR_4XX", ""),
        silence_is_ambiguous=('raise Ambiguous(f"no answer', 'raise Unreached(f"no answer'),
        token_stays_with_the_hub=("urlsplit(url)[:2] != urlsplit(self._hub)[:2]", "False"),
    ),
    # A cancel is for good, and reaches whatever is open.
    *_in(
        "schema/lifecycle.py",
        _LIFECYCLE,
        cancel_is_the_owners=(" AND subject_id = $2 AND state IN", " AND state IN"),
        key_is_held_until_it_expires=("WHERE held.expires_at <= now()", "WHERE true"),
    ),
    *_in(
        "schema/lifecycle.py",
        _LAUNCHES,
        cancel_dooms_the_open_run=(
            "run.job_id = called_off.id AND run.state IN ('posting', 'unknown', 'bound')",
            "run.job_id = called_off.id AND false",
        ),
    ),
    *_in(
        "schema/lifecycle.py",
        _RACES,
        cancel_locks_the_job=("subject_id = $2 FOR UPDATE", "subject_id = $2"),
    ),
    *_in(
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
    *_in(
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
    *_in(
        "alembic/versions/20261121_0001_create_the_tables.py",
        _RUNS,
        one_open_launch=('["job_id"],\n        unique=True', '["job_id"],\n        unique=False'),
        one_run_an_attempt=(
            '["job_id", "attempt"],\n        unique=True',
            '["job_id", "attempt"],\n        unique=False',
        ),
    ),
    # Work is shared out without waiting, in turn, and within bounds.
    *_in(
        "schema/launches.py",
        _RACES,
        claim_passes_a_locked_subject=(
            "last_served_at LIMIT $2 FOR UPDATE SKIP LOCKED",
            "last_served_at LIMIT $2 FOR UPDATE",
        ),
        claim_passes_a_locked_job=(
            "least(served.room, $2) FOR UPDATE SKIP LOCKED",
            "least(served.room, $2) FOR UPDATE",
        ),
    ),
    *_in(
        "schema/attention.py",
        _RACES,
        runs_pass_a_locked_run=(
            "due_at LIMIT $1 FOR UPDATE SKIP LOCKED",
            "due_at LIMIT $1 FOR UPDATE",
        ),
        groups_pass_a_locked_group=("FOR UPDATE OF polled SKIP LOCKED", "FOR UPDATE OF polled"),
    ),
    *_in(
        "schema/launches.py",
        _SHARING,
        longest_unserved_goes_first=(
            "ORDER BY last_served_at LIMIT $2 FOR",
            "ORDER BY last_served_at DESC LIMIT $2 FOR",
        ),
        service_is_remembered=(
            "last_served_at = clock_timestamp()",
            "last_served_at = last_served_at",
        ),
        claim_stays_within_the_room=("least(served.room, $2)", "$2"),
        claim_wants_room=("AND active < max_active ", ""),
        claim_waits_while_the_subject_is_quiet=("AND next_launch_at <= now()", ""),
        claim_waits_until_the_job_is_due=("AND kind = $1 AND due_at <= now()", "AND kind = $1"),
    ),
    # Without a token nothing is asked, and a refusal is about one token.
    *_in(
        "schema/launches.py",
        _CREDENTIALS,
        claim_respects_a_hold=("queued > 0 AND hold IS NULL", "queued > 0"),
    ),
    *_in(
        "schema/credentials.py",
        _CREDENTIALS,
        refusal_is_of_one_version=(
            "version = $2 AND state = 'valid'",
            "$2 > 0 AND state = 'valid'",
        ),
        refused_token_is_not_lent=(
            "credential WHERE subject_id = $1 AND state = 'valid'",
            "credential WHERE subject_id = $1",
        ),
        operators_hold_is_not_overwritten=(
            "refused.subject_id AND subject.hold IS NULL",
            "refused.subject_id",
        ),
        operators_hold_is_not_released=(
            'WHERE id = $1 AND hold = \'credentials\'\n    """,\n)',
            'WHERE id = $1\n    """,\n)',
        ),
    ),
    *_in(
        "schema/attention.py",
        _ATTENTION,
        runs_respect_a_hold=("WHERE hold IS NULL", "WHERE true"),
        groups_respect_a_hold=(
            "polled.due_at <= now() AND subject.hold IS NULL",
            "polled.due_at <= now()",
        ),
        run_is_taken_under_a_lease=("THEN $2 ELSE", "THEN 0 * $2::interval ELSE"),
        group_is_taken_under_a_lease=(
            "epoch + 1, due_at = now() + $2",
            "epoch + 1, due_at = now() + 0 * $2::interval",
        ),
        kill_orders_go_first=("ORDER BY desired DESC, due_at", "ORDER BY due_at"),
        kill_is_repeated=(
            "kills + 1, due_at = now() + $2",
            "kills + 1, due_at = now() + $2 + interval '9 hours'",
        ),
        lost_turn_is_not_given_back=(
            "polled.namespace = $2 AND epoch = $3",
            "polled.namespace = $2 AND $3::bigint > 0",
        ),
        lost_turn_is_not_postponed=(
            "WHERE subject_id = $1 AND namespace = $2 AND epoch = $3",
            "WHERE subject_id = $1 AND namespace = $2 AND $3::bigint > 0",
        ),
    ),
    # A move is written whole: its event, and what it adds to the counts.
    *_in(
        "schema/lifecycle.py",
        _LIFECYCLE,
        created_event=(
            "'created', state, $2 FROM made",
            "'created', state, $2 FROM made WHERE false",
        ),
        cancelled_event=("state, $2 FROM called_off", "state, $2 FROM called_off WHERE false"),
        submit_counts=("queued = queued + 1", "queued = queued"),
        cancel_counts=("AND called_off.was = 'queued'", "AND false"),
    ),
    *_in(
        "schema/launches.py",
        _LAUNCHES,
        subjects_take_turns=("ORDER BY turn, last_served_at", "ORDER BY last_served_at"),
        claimed_event=(
            "('attempt', attempt) FROM claimed",
            "('attempt', attempt) FROM claimed WHERE false",
        ),
        begun_event=("state, $2 FROM begun", "state, $2 FROM begun WHERE false"),
        bound_event=(
            "'stage', $3::text)\n      FROM moved",
            "'stage', $3::text)\n      FROM moved WHERE false",
        ),
        unconfirmed_event=(
            "('why', $2::text) FROM moved",
            "('why', $2::text) FROM moved WHERE false",
        ),
        rejected_event=(
            "('message', $3::text) FROM moved",
            "('message', $3::text) FROM moved WHERE false",
        ),
        claim_counts=("active = active + taken.jobs", "active = active"),
        reject_counts=("active = active - 1", "active = active"),
    ),
    *_in(
        "schema/endings.py",
        _ENDINGS,
        ended_event=(
            "$7, jsonb_build_object('stage', $2::text) FROM moved",
            "$7, jsonb_build_object('stage', $2::text) FROM moved WHERE false",
        ),
        absent_event=(
            "'absent', state, $3 FROM moved",
            "'absent', state, $3 FROM moved WHERE false",
        ),
        surplus_event=(
            "('remote_id', $2::text) FROM moved",
            "('remote_id', $2::text) FROM moved WHERE false",
        ),
        end_counts=("active = active - 1 FROM over", "active = active FROM over"),
        end_counts_the_live=("live = polled.live - 1", "live = polled.live"),
        late_arrival_counts=("live = poll_group.live + 1", "live = poll_group.live"),
    ),
    *_in(
        "schema/launches.py",
        _ENDINGS,
        bind_counts=("live = poll_group.live + 1", "live = poll_group.live"),
    ),
    *_in(
        "schema/logbook.py",
        "tests/schema/test_logbook.py",
        log_is_appended_once=("AND log_lines = $2", "AND $2 >= 0"),
    ),
)
