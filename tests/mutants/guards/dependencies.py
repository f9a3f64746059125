"""Guards of job dependencies, of the progress of calls, and of reading many jobs at once."""

from typing import Final

from schema.jobs import deadlines, dependencies, lifecycle
from schema.jobs import queries as job_queries
from service.jobs import launch as job_launch
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.schema.jobs import test_dependencies as test_job_dependencies
from tests.schema.jobs import test_queries as test_job_queries
from tests.service.jobs import test_dependencies as test_launch_dependencies
from tests.workers.executors import test_discovery
from workers.attempts import run as attempt_run

DEPENDENCY_GUARDS: Final = (
    *mutants_in_file(
        lifecycle,
        test_job_dependencies,
        a_parent_cannot_end_unseen=("\n     ORDER BY id\n       FOR SHARE", " ORDER BY id"),
        who_waits_is_not_due=("THEN 'infinity'::timestamptz", "THEN now()"),
        a_parent_is_the_subjects_own=(
            (
                "FROM job\n"
                "     WHERE subject_id = :subject_id\n"
                "       AND id = ANY(:parent_ids::uuid[])"
            ),
            "FROM job WHERE :subject_id::text IS NOT NULL AND id = ANY(:parent_ids::uuid[])",
        ),
        a_key_knows_what_is_waited_for=(', "after", "on"),', "),"),
    ),
    *mutants_in_file(
        lifecycle,
        test_job_dependencies,
        nobody_waits_for_nothing=('if not row["related"]:', "if False:"),
    ),
    *mutants_in_file(
        dependencies,
        test_job_dependencies,
        all_parents_have_to_be_over=("bool_and(wait.state = 'met')", "bool_or(wait.state = 'met')"),
        what_fails_leaves_the_queue=("SET queued = queued - failed.jobs", "SET queued = queued"),
        only_who_waits_is_released=(
            "AND job.state = 'queued'\n       AND job.due_at = 'infinity'",
            "AND job.state = 'queued'",
        ),
    ),
    *mutants_in_file(
        deadlines,
        test_job_dependencies,
        patience_begins_when_it_may_begin=(
            "job.due_at + $1 <= now()",
            "job.created_at + $1 <= now()",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/dependency_settlement.sql",
        test_job_dependencies,
        any_end_is_an_end=("OR wait.on_end = 'finish' THEN", "THEN"),
        a_failure_is_no_success=("WHEN NEW.state = 'succeeded' OR", "WHEN true OR"),
    ),
    *mutants_in_file(
        job_queries,
        test_job_queries,
        a_page_is_read_without_its_bulk=(
            "f\"{_SHORT_STATUS_SELECT.replace('now()",
            "f\"{_STATUS_SELECT.replace('now()",
        ),
    ),
    *mutants_in_file(
        job_launch,
        test_launch_dependencies,
        who_could_never_begin_is_refused=(
            "condition is DependencyCondition.SUCCESS\n            and",
            "False\n            and",
        ),
    ),
    *mutants_in_file(
        attempt_run,
        test_discovery,
        what_is_said_is_written=(
            "            group.start_soon(reporter.write_until_cancelled)\n",
            "",
        ),
    ),
)
