"""Guards of the adoption of jobs that were started outside of Holdfast."""

from typing import Final

from schema.common import ids
from schema.jobs import adoption
from service.jobs import retries
from service.mcp.tools import outside_jobs
from tests.mutants.mutant import mutants_in_file
from tests.schema.jobs import test_adoption as test_stored_adoption
from tests.service.jobs import test_retries
from tests.service.mcp.tools import test_adoption
from tests.workers.loops import test_adopted_runs
from workers.loops import poll_runs

ADOPTION_GUARDS: Final = (
    *mutants_in_file(
        outside_jobs,
        test_adoption,
        an_id_of_the_hub_is_no_path=("if not _JOB_ID.fullmatch(remote_id):", "if False:"),
        what_is_in_doubt_is_recognised_by_its_label=(
            "remote_ids=[job.id],\n        run_ids=[] if run_id is None else [run_id],",
            "remote_ids=[job.id],\n        run_ids=[],",
        ),
        nothing_is_adopted_before_the_comparison=(
            "await _expect_compared(tx, caller)\n        job_id = await",
            "job_id = await",
        ),
        a_copy_is_no_run_of_ours=("if job.is_copy or len(names) != 1:", "if len(names) != 1:"),
        unknown_secrets_withhold_the_log=(
            "has_secrets=request.has_unknown_secrets",
            "has_secrets=False",
        ),
        a_page_is_read_on_behind_its_last_job=(
            "jobs[listed_ids.index(last_id) + 1 :]",
            "jobs[listed_ids.index(last_id) :]",
        ),
    ),
    *mutants_in_file(
        adoption,
        test_adoption,
        adopted_jobs_are_limited=("if open_jobs > max_open_jobs:", "if False:"),
    ),
    *mutants_in_file(
        adoption,
        test_stored_adoption,
        an_adoption_counts_to_the_month_of_the_job=(
            "least(:created_at, now()) AT TIME ZONE",
            "now() AT TIME ZONE",
        ),
        a_handle_of_another_is_none=(
            "WHERE subject_id = $1\n   AND namespace = $2\n   AND (remote_id",
            "WHERE $1::text IS NOT NULL\n   AND namespace = $2\n   AND (remote_id",
        ),
    ),
    *mutants_in_file(
        ids,
        test_adoption,
        a_handle_follows_from_its_person=('"\\0".join(parts)', '"".join(parts)'),
    ),
    *mutants_in_file(
        poll_runs,
        test_adopted_runs,
        an_adopted_run_has_no_deadline=("if run.deadline_at is None:", "if False:"),
    ),
    *mutants_in_file(
        retries,
        test_retries,
        what_cannot_be_repeated_is_not_run_again=(
            'if missing := (status.adoption or {}).get("missing"):',
            "if missing := list[str]():",
        ),
    ),
)
