"""Guards of workspaces, and of running a job again."""

from typing import Final

from schema.jobs import lifecycle
from schema.workspaces import open_jobs as stored_open_jobs
from schema.workspaces import store as workspace_store
from service.jobs import approval, retries
from service.jobs import defaults as job_defaults
from service.mcp import confirmation
from service.mcp.tools import launch_job, retry_job, wait_for_jobs
from service.workspaces import open_jobs
from tests.mutants.mutant import mutants_in_file
from tests.schema.workspaces import test_store as test_workspace_store
from tests.service.jobs import test_approval, test_retries
from tests.service.mcp.tools import test_retry_job, test_workspace_jobs, test_workspace_settings

WORKSPACE_GUARDS: Final = (
    *mutants_in_file(
        lifecycle,
        test_workspace_store,
        an_archived_workspace_takes_no_job=("AND workspace.archived_at IS NULL", ""),
        an_unpriced_launch_waits_for_a_budget=(
            "FROM entered WHERE budget_micro_usd IS NOT NULL",
            "FROM workspace WHERE id = :workspace_id AND budget_micro_usd IS NOT NULL",
        ),
        a_launch_and_an_archive_wait_for_each_other=("       FOR NO KEY UPDATE OF workspace\n", ""),
    ),
    *mutants_in_file(
        lifecycle,
        test_workspace_store,
        what_is_archived_says_so=('if not row["entered"]:', "if False:"),
    ),
    *mutants_in_file(
        lifecycle,
        test_retry_job,
        a_retry_is_no_duplicate_of_what_it_repeats=(
            "AND earlier.id IS DISTINCT FROM :rerun_of",
            "",
        ),
        a_key_knows_what_is_repeated=(', "rerun_of", "after"', ', "after"'),
    ),
    *mutants_in_file(
        workspace_store,
        test_workspace_store,
        a_budget_that_is_not_given_stays=(
            "CASE WHEN :sets_budget THEN :budget_micro_usd",
            "CASE WHEN :sets_budget OR true THEN :budget_micro_usd",
        ),
        what_is_not_given_stays=("before.defaults || :defaults", ":defaults::jsonb"),
        archiving_twice_keeps_the_first_time=("coalesce(before.archived_at, now())", "now()"),
        nothing_is_noted_of_no_change=("WHERE facts IS NOT NULL", ""),
    ),
    # One call for all open jobs of a workspace.
    *mutants_in_file(
        stored_open_jobs,
        test_workspace_jobs,
        a_cancel_stays_in_its_workspace=(
            "AND workspace_id = $2\n   AND finished_at IS NULL\n   AND kind",
            "AND $2::uuid IS NOT NULL\n   AND finished_at IS NULL\n   AND kind",
        ),
        a_wait_holds_what_is_being_stopped=("AND job.workspace_id = $2) AS", "AND false) AS"),
        what_was_launched_is_waited_for_first=("ORDER BY state = 'queued', id", "ORDER BY id DESC"),
        a_stopped_schedule_does_not_go_on=("\n           AND paused_at IS NULL", ""),
    ),
    *mutants_in_file(
        open_jobs,
        test_workspace_jobs,
        a_kind_out_of_scope_is_not_cancelled=("if scope not in self.caller.scopes:", "if False:"),
        a_cancel_looks_again=("return batch, bool(candidates)", "return batch, False"),
    ),
    *mutants_in_file(
        wait_for_jobs,
        test_workspace_jobs,
        what_a_wait_has_no_room_for_is_not_done=('update={"done": False, ', "update={"),
    ),
    *mutants_in_file(
        launch_job,
        test_approval,
        a_default_is_priced=('resolved.select_arguments("flavor", "timeout") | ', ""),
        what_is_refused_is_not_asked=(
            "await price_launch(app, spec, arguments.max_cost_usd)",
            "await price_launch(app, spec, None)",
        ),
    ),
    *mutants_in_file(
        confirmation,
        test_approval,
        a_consent_is_one_launch=(
            "request.idempotency_key or approval.idempotency_key",
            "request.idempotency_key",
        ),
    ),
    *mutants_in_file(
        approval,
        test_approval,
        a_repeat_asks_nobody=("NO_APPROVAL if is_repeat else question", "question"),
    ),
    *mutants_in_file(
        retry_job,
        test_approval,
        a_retry_asks=("else workspace.confirm_above_micro_usd", "else None"),
        a_retry_is_priced=(
            "rate=await price_launch(app, plan.spec, arguments.max_cost_usd)",
            "rate=None",
        ),
    ),
    *mutants_in_file(
        job_defaults,
        test_workspace_settings,
        the_call_wins=("own | filled", "own"),
        labels_are_checked_together=(
            "        WorkspaceDefaults(labels=labels)\n",
            "        pass\n",
        ),
    ),
    *mutants_in_file(
        retries,
        test_retries,
        no_retry_of_what_goes_on=("if status.finished_at is None:", "if False:"),
        no_retry_of_what_may_live=("if status.upstream in {", "if False and status.upstream in {"),
        no_retry_without_the_secrets=("    if missing:\n", "    if False:\n"),
        a_longer_timeout_is_longer=(
            "return not _describe_short_timeout(status, plan)",
            "return True",
        ),
    ),
)
