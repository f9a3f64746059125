"""Guards of costs and budgets."""

from typing import Final

from schema.billing import budgets, pricing
from schema.common import errors
from schema.hub import prices
from schema.jobs import deadlines, lifecycle, run_end
from schema.jobs.retention import deletion, pruning
from service.http import refusals
from service.jobs import dry_run
from service.runtime import price_cache
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.schema.billing import test_budgets, test_cost_settlement
from tests.schema.jobs import test_retention
from tests.service.jobs import test_prices_and_budgets
from tests.service.mcp import test_limits

_SETTLEMENT_SQL: Final = ALEMBIC / "sql/0001/cost_settlement.sql"

COST_GUARDS: Final = (
    *mutants_in_file(
        lifecycle,
        test_budgets,
        workspace_is_bounded=(
            "               <= workspace.budget_micro_usd)",
            "               >= 0)",
        ),
        month_is_bounded=(
            (
                "OR so_far.held_micro_usd + so_far.spent_micro_usd + :ceiling_micro_usd <= budget\n"
                "              FROM"
            ),
            "OR true FROM",
        ),
        first_of_a_month_is_bounded=("AND (budget IS NULL OR :ceiling_micro_usd <= budget)", ""),
        unpriced_is_refused=("WHERE budget IS NOT NULL)\n", "WHERE false)\n"),
        unpriced_is_refused_by_workspace=(
            "WHERE budget_micro_usd IS NOT NULL) END",
            "WHERE false) END",
        ),
        own_budget_comes_first=(
            "coalesce(monthly_budget_micro_usd, :default_monthly_budget::bigint)",
            ":default_monthly_budget::bigint",
        ),
        limit_is_part_of_the_request=('"max_cost_usd", "rerun_of"', '"rerun_of"'),
    ),
    *mutants_in_file(
        lifecycle,
        test_budgets,
        no_room_is_refused=('if not row["held"]:', "if False:"),
        month_tells_from_workspace=('None if row["grouped"] else workspace_id', "workspace_id"),
    ),
    *mutants_in_file(
        budgets,
        test_limits,
        next_month_makes_room=(" + interval '1 month')", ")"),
        refusal_names_the_next_month=("                resets_at=budget.resets_at,\n", ""),
    ),
    *mutants_in_file(
        errors,
        test_limits,
        limit_is_named_to_programs=(
            "(self.limit_usage.to_fields() if self.limit_usage else {})",
            "{}",
        ),
        reserved_money_is_used=(
            "to_usd(spent_micro_usd + held_micro_usd)",
            "to_usd(spent_micro_usd)",
        ),
    ),
    *mutants_in_file(
        refusals,
        test_limits,
        limit_of_calls_is_named_to_programs=(
            "str(error), headers, error.to_dict())",
            "str(error), headers)",
        ),
    ),
    *mutants_in_file(
        run_end,
        test_cost_settlement,
        second_launch_needs_room=(
            (
                "relaunch = relaunch and await budgets.lock_budgets_for_relaunch(\n"
                "        tx, run_id, default_monthly_budget=default_monthly_budget\n    )"
            ),
            "relaunch = relaunch and default_monthly_budget != 0",
        ),
        second_launch_is_held=(
            "SET held_micro_usd = held_micro_usd + ceiling_micro_usd",
            "SET held_micro_usd = held_micro_usd",
        ),
        absent_is_held_for=(
            "due_at = NULL,\n           deadline_at = now() + :late_arrival_window",
            "due_at = NULL",
        ),
        started_minutes_are_billed=(
            "ceil(extract(epoch FROM before.run_duration) / 60)",
            "floor(extract(epoch FROM before.run_duration) / 60)",
        ),
        first_minute_is_billed=(
            "greatest(1, ceil(extract(epoch FROM before.run_duration",
            "greatest(0, ceil(extract(epoch FROM before.run_duration",
        ),
        never_started_is_free=(
            "WHEN before.never_started AND run.stage IS DISTINCT FROM 'RUNNING'",
            "WHEN before.never_started AND false",
        ),
        seen_running_is_billed=(
            "never_started AND run.stage IS DISTINCT FROM 'RUNNING'",
            "never_started",
        ),
        wait_is_not_billed=(
            "- coalesce(before.time_to_start, '0')",
            "- 0 * before.time_to_start",
        ),
        our_own_times_are_bounded=(
            "least(before.ceiling_micro_usd,\n                          before.price",
            "least(before.price",
        ),
    ),
    *mutants_in_file(
        budgets,
        test_cost_settlement,
        second_launch_in_the_workspace=("least((SELECT left_micro_usd FROM grouped),", "least("),
        second_launch_in_the_month=("(SELECT left_micro_usd FROM monthly),\n", ""),
        second_launch_within_the_limit=(
            "most_micro_usd - held_micro_usd,\n                                  ",
            "",
        ),
    ),
    *mutants_in_file(
        deletion,
        test_cost_settlement,
        what_is_watched_for_is_kept=("OR (state = 'absent' AND deadline_at IS NOT NULL)", ""),
    ),
    *mutants_in_file(
        deletion,
        test_retention,
        deleted_cost_is_added=(
            "spent_micro_usd = earlier.spent_micro_usd + excluded.spent_micro_usd",
            "spent_micro_usd = excluded.spent_micro_usd",
        ),
        deleted_jobs_are_counted=("jobs = earlier.jobs + excluded.jobs,", "jobs = earlier.jobs,"),
    ),
    *mutants_in_file(
        pruning,
        test_retention,
        kind_has_its_own_retention=(
            "coalesce(own.period, :period::interval)",
            "least(own.period, :period::interval)",
        ),
        held_month_is_kept=("              AND held_micro_usd = 0\n", ""),
    ),
    *mutants_in_file(
        deadlines,
        test_cost_settlement,
        watch_is_waited_for=(
            "run.state = 'absent'\n       AND run.deadline_at + $3 <= now()",
            "run.state = 'absent' AND $3::interval IS NOT NULL",
        ),
    ),
    *mutants_in_file(
        _SETTLEMENT_SQL,
        test_cost_settlement,
        open_run_is_held_for=("(state IN ('posting', 'unknown', 'bound')\n", "(false\n"),
        watched_run_is_held_for=(
            "OR (state = 'absent' AND deadline_at IS NOT NULL))) THEN",
            ")) THEN",
        ),
        spent_is_never_more_than_held=(
            "spent_micro_usd = least(total, cost.held_micro_usd),",
            "spent_micro_usd = total,",
        ),
        late_cost_is_said=(
            "ELSIF total > cost.spent_micro_usd",
            "ELSIF false AND total > cost.spent_micro_usd",
        ),
        month_of_the_launch=("AND month = cost.month", ""),
    ),
    *mutants_in_file(
        pricing,
        test_prices_and_budgets,
        price_of_another_unit_is_none=(
            'self.unit_cost if self.unit_label == "minute" else None',
            "self.unit_cost",
        ),
        limit_is_kept=("if rate.ceiling_micro_usd > limit:", "if False:"),
    ),
    *mutants_in_file(
        prices,
        test_prices_and_budgets,
        last_good_list_counts=("stored = await price_store.load_price_list(tx)", "stored = None"),
    ),
    *mutants_in_file(
        price_cache,
        test_prices_and_budgets,
        prices_are_kept_for_a_while=("else _FRESH_LIFETIME)", "else UNAVAILABLE_TTL * 0)"),
    ),
    *mutants_in_file(
        dry_run,
        test_prices_and_budgets,
        dry_run_looks_at_budgets=(
            "is not None:\n        needs.append(str(exceeded))",
            "is None:\n        pass",
        ),
        dry_run_asks_for_permission=("return [str(denial)]", "return []"),
    ),
)
