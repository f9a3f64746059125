"""The scenarios of the benchmarks, in the order of the page."""

from typing import Final

from tests.bench import comparison
from tests.bench.scenario import Scenario
from tests.bench.scenarios.batch import measure_batch
from tests.bench.scenarios.cadence import measure_cadence
from tests.bench.scenarios.first_start import measure_first_start
from tests.bench.scenarios.footprint import measure_footprint
from tests.bench.scenarios.growth import measure_growth
from tests.bench.scenarios.idle import measure_idle
from tests.bench.scenarios.launches import measure_launches
from tests.bench.scenarios.observation import measure_observation
from tests.bench.scenarios.queues import measure_queues
from tests.bench.scenarios.recovery import measure_recovery
from tests.bench.scenarios.retention import measure_retention
from tests.bench.scenarios.slots import measure_slots
from tests.bench.scenarios.tool_calls import measure_tool_calls
from tests.bench.scenarios.waiters import measure_waiters

SCENARIOS: Final = (
    Scenario(
        "queues",
        "Queues",
        "Every program gets an empty database of the same durable Postgres. Jobs do nothing. "
        "Ours and the peers' run one after the other in each round. A worker has 32 slots; dbos "
        "and pgqueuer set no limit by themselves. The bare INSERT of one row, durable and on a "
        "pool of asyncpg, is no queue: no submit can be quicker. Without Redis nobody wakes the "
        "worker, and it finds a job when it looks; arq then does nothing.",
        measure_queues,
        comparison.QUEUE_TARGETS,
    ),
    Scenario(
        "slots",
        "Slots",
        "The same queues with one worker that runs 1, 16 or 64 jobs at a time. All jobs are in the "
        "queue when it starts. Only dbos begins while they are submitted, so its rate is that of "
        "both. There is no target.",
        measure_slots,
    ),
    Scenario(
        "tools",
        "Tool calls",
        "Calls over HTTP on 8 connections. Ours checks the token, limits the caller and reads with "
        "row-level security; the empty tools of the SDK and of FastMCP do nothing. A bare route of "
        "Starlette, which speaks no MCP, is what HTTP itself costs.",
        measure_tool_calls,
        comparison.TOOL_TARGETS,
    ),
    Scenario(
        "launches",
        "Launches over HTTP",
        "Launches of different jobs, durable, with the view of the job in the answer, beside a "
        "tool of the same service that answers from memory after the same checks.",
        measure_launches,
        comparison.LAUNCH_TARGETS,
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
        "and the claim of a queued job, beside few and beside many finished jobs with ten events "
        "each: up to 100,000 jobs in a quick run, and a million in a full one. Without HTTP: "
        "transactions as the tools and the worker make them.",
        measure_growth,
        comparison.GROWTH_TARGETS,
    ),
    Scenario(
        "footprint",
        "Footprint",
        "What one job leaves and takes; no measure is a time. Two rounds of 1,000 jobs (quick: "
        "300) of 20 people, submitted together: calls that do nothing, and jobs of a simulated Hub "
        "with a log. Bytes are those of the tables after a VACUUM, over both rounds. The first "
        "round of WAL follows a CHECKPOINT. Round trips are statements with BEGIN and COMMIT. "
        "Beside the updates is the share of them that wrote no index. A poll is of 50 runs, and a "
        "wake-up one that no worker takes. There is no target.",
        measure_footprint,
    ),
    Scenario(
        "recovery",
        "Recovery",
        "A worker gets SIGKILL when the Hub has created its job and nothing is written down yet. "
        "Another one starts at once, and finds the job at the Hub; nothing is launched twice. All "
        "settings are the defaults: most of it is the lease of 90 s. arq runs such a job again "
        "when its key expires, after `job_timeout` (300 s) and 10 s.",
        measure_recovery,
        comparison.RECOVERY_TARGETS,
    ),
    Scenario(
        "observation",
        "Observation",
        "One pass of a worker over open runs, 50 of each person, against a Hub that answers at "
        "once. Runs that wait for hardware are only listed. Of runs that print, four logs of each "
        "person are read as well. The time in the database is that of all connections in "
        "transactions, as one connection would need it for 100,000 runs.",
        measure_observation,
        comparison.OBSERVATION_TARGETS,
    ),
    Scenario(
        "cadence",
        "Cadence",
        "A simulation of the poll loop, without a database and with the same numbers on every "
        "machine: a window of five minutes of the Hub, with launches and ends at random. A poll "
        "waits for the Hub for 0.2 s, for logs for 1 s more, and takes 5 ms of its worker. The "
        "quota is that of a free user, on average and of the busiest person; a delay is from the "
        "end of a run until it is seen; late is a poll after its group was due. There is no "
        "target.",
        measure_cadence,
    ),
    Scenario(
        "retention",
        "Retention",
        "A worker's deletion of jobs that are all past their retention, 500 in a transaction, with "
        "their requests, events, runs and costs. There is no target.",
        measure_retention,
    ),
    Scenario(
        "idle",
        "Idle worker",
        "A worker process with nothing to do. BEGIN, COMMIT and ROLLBACK are not counted as "
        "statements.",
        measure_idle,
        comparison.IDLE_TARGETS,
    ),
    Scenario(
        "batch",
        "Batch",
        "One batch of short prompts with 32 calls at a time, against a router that answers at "
        "once. There is no target.",
        measure_batch,
    ),
    Scenario(
        "first_start",
        "First start",
        "`python3 -m service demo` until it prints the handle of its job, and until its end; the "
        "job itself sleeps for 1.2 s. Cold is a fresh clone that has to install its packages, and "
        "is measured in full runs only. Warm is a clone that is set up, with an empty data folder.",
        measure_first_start,
        comparison.FIRST_START_TARGETS,
    ),
)
