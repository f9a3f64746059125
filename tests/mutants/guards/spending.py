"""Guards of the search for jobs, and of what is said to be spent."""

from typing import Final

from schema.billing import spending
from schema.jobs import search
from schema.jobs.retention import deletion
from service.mcp.tools import account
from service.views import money
from tests.mutants.mutant import mutants_in_file
from tests.schema.billing import test_spending
from tests.schema.jobs import test_search
from tests.service.mcp.tools import test_spending as test_spending_tool

SPENDING_GUARDS: Final = (
    *mutants_in_file(
        spending,
        test_spending,
        spending_counts_deleted_jobs=(
            "       AND day BETWEEN (SELECT first_day FROM period)",
            "       AND false AND day BETWEEN (SELECT first_day FROM period)",
        ),
        spending_days_are_in_utc=(
            "       AND (job.created_at AT TIME ZONE 'UTC')::date",
            "       AND job.created_at::date",
        ),
        spending_of_a_workspace=(
            "(:workspace_id::uuid IS NULL OR job.workspace_id = :workspace_id)",
            "true",
        ),
        unlimited_workspace_has_nothing_left=(
            "CASE WHEN workspace.budget_micro_usd IS NOT NULL",
            "CASE WHEN true",
        ),
        unpriced_is_not_free=("(cost.job_id IS NULL)::int AS unpriced", "0 AS unpriced"),
        foreign_workspace_has_no_spending=(
            "SELECT FROM workspace WHERE subject_id = :subject_id AND id",
            "SELECT FROM workspace WHERE id",
        ),
    ),
    *mutants_in_file(
        deletion,
        test_spending,
        uncounted_outlives_its_job=(
            "sum(uncounted_micro_usd), sum(unpriced)",
            "0, sum(unpriced)",
        ),
    ),
    *mutants_in_file(
        money,
        test_spending_tool,
        rest_is_what_is_not_shown=("report.groups[: len(shown)]", "report.groups"),
        incomplete_days_are_named=(
            "complete_from if report.first_day < complete_from else None",
            "None",
        ),
    ),
    *mutants_in_file(
        account,
        test_spending_tool,
        month_beside_since_is_refused=('if month != "this" and', "if False and"),
    ),
    *mutants_in_file(
        search,
        test_search,
        words_are_no_patterns=("if letter in _PATTERN_SYNTAX else letter", "if False else letter"),
        word_in_a_list_is_found=("dict.fromkeys([word, json", "dict.fromkeys([word, word or json"),
        search_ignores_case=("if len(letters) > 1:", "if False:"),
        env_is_not_searched=('*("image", "command",', '*("image", "env", "command",'),
        search_goes_on_behind_its_end=(
            "ends[0] if ends else None",
            "None",
        ),
        large_requests_end_a_search=("AND (bytes > :max_bytes OR", "AND (false OR"),
    ),
)
