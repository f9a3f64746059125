"""The scenarios of the benchmarks, in the order of the page."""

from typing import Final

from tests.bench import comparison
from tests.bench.scenario import Scenario
from tests.bench.scenarios.growth import measure_growth
from tests.bench.scenarios.queues import measure_queues
from tests.bench.scenarios.retention import measure_retention
from tests.bench.scenarios.tool_calls import measure_tool_calls
from tests.bench.scenarios.waiters import measure_waiters

SCENARIOS: Final = (
    Scenario(
        "queues",
        "Queues",
        "Every program gets an empty database of the same durable Postgres. Jobs do nothing. "
        "Ours and the peers' run one after the other in each round.",
        measure_queues,
        comparison.QUEUE_TARGETS,
    ),
    Scenario(
        "tools",
        "Tool calls",
        "Calls over HTTP on 8 connections. Ours checks the token, limits the caller and reads with "
        "row-level security; the empty tools of the SDK and of FastMCP do nothing.",
        measure_tool_calls,
        comparison.TOOL_TARGETS,
    ),
    Scenario(
        "waiters",
        "Waiters",
        "Calls of one service process wait for 200 jobs. Every job is changed once, as quickly as "
        "the changes commit, and every waiter then reads its job.",
        measure_waiters,
        comparison.WAITER_TARGETS,
    ),
    Scenario(
        "growth",
        "Growth",
        "One person's status of a random job, list of 20 jobs, list by a label that 10 jobs have, "
        "and the claim of a queued job, beside few and beside many finished jobs with five events "
        "each. Without HTTP: transactions as the tools and the worker make them.",
        measure_growth,
        comparison.GROWTH_TARGETS,
    ),
    Scenario(
        "retention",
        "Retention",
        "A worker's deletion of jobs that are all past their retention, 500 in a transaction, with "
        "their requests, events, runs and costs. There is no target.",
        measure_retention,
    ),
)
