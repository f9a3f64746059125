"""The guards of what waits for what, of how far a call says it is, and of what is read of many."""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_WAITS: Final = "tests/schema/jobs/test_dependencies.py"
_AFTER: Final = "tests/service/jobs/test_dependencies.py"
_EXECUTORS: Final = "tests/workers/executors/test_discovery.py"

DEPENDENCY_GUARDS: Final = (
    *mutants_in_file(
        "schema/jobs/lifecycle.py",
        _WAITS,
        a_parent_cannot_end_unseen=(" ORDER BY id FOR SHARE", " ORDER BY id"),
        who_waits_is_not_due=("THEN 'infinity'::timestamptz", "THEN now()"),
        a_parent_is_the_subjects_own=(
            "FROM job WHERE subject_id = $2 AND id = ANY($17::uuid[])",
            "FROM job WHERE $2::text IS NOT NULL AND id = ANY($17::uuid[])",
        ),
        a_key_knows_what_is_waited_for=(', "after", "on"),', "),"),
    ),
    *mutants_in_file(
        "schema/jobs/lifecycle.py",
        _WAITS,
        nobody_waits_for_nothing=('if not row["related"]:', "if False:"),
    ),
    *mutants_in_file(
        "schema/jobs/dependencies.py",
        _WAITS,
        all_parents_have_to_be_over=("bool_and(wait.state = 'met')", "bool_or(wait.state = 'met')"),
        what_fails_leaves_the_queue=("SET queued = queued - failed.jobs", "SET queued = queued"),
        only_who_waits_is_released=(
            "AND job.state = 'queued' AND job.due_at = 'infinity'",
            "AND job.state = 'queued'",
        ),
    ),
    *mutants_in_file(
        "schema/jobs/deadlines.py",
        _WAITS,
        patience_begins_when_it_may_begin=(
            "job.due_at + $1 <= now()",
            "job.created_at + $1 <= now()",
        ),
    ),
    *mutants_in_file(
        "alembic/sql/0001/dependency_settlement.sql",
        _WAITS,
        any_end_is_an_end=("OR wait.on_end = 'finish' THEN", "THEN"),
        a_failure_is_no_success=("WHEN NEW.state = 'succeeded' OR", "WHEN true OR"),
    ),
    *mutants_in_file(
        "schema/jobs/queries.py",
        "tests/schema/jobs/test_queries.py",
        a_page_is_read_without_its_bulk=(
            '_GET_JOB_STATUSES: Final = f"{_SHORT_STATUS_SELECT} AND',
            '_GET_JOB_STATUSES: Final = f"{_STATUS} AND',
        ),
    ),
    *mutants_in_file(
        "service/jobs/launch.py",
        _AFTER,
        who_could_never_begin_is_refused=(
            "condition is DependencyCondition.SUCCESS\n            and",
            "False\n            and",
        ),
    ),
    *mutants_in_file(
        "workers/attempts/run.py",
        _EXECUTORS,
        what_is_said_is_written=(
            "            group.start_soon(reporter.write_until_cancelled)\n",
            "",
        ),
    ),
)
