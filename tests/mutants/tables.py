"""The guards the database keeps by itself, in the migrations."""

from typing import Final

from tests.mutants.mutant import in_file

_LIFECYCLE: Final = "tests/schema/test_lifecycle.py"
_RUNS: Final = "tests/schema/test_remote_run.py"

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
)
