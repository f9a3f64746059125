"""The benchmarks' own arithmetic: targets, comparisons, the page, and the command line."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from schema.accounts.row_security import DatabaseRole
from tests.bench import cli
from tests.bench.comparison import Comparison, Rounds, Target, collect, compare, format_number
from tests.bench.page import format_row, write_page
from tests.bench.queue_load import SINK, LoadSize, measure
from tests.bench.scenario import BenchRun, Scenario, Size
from tests.bench.scenarios.catalog import SCENARIOS
from tests.bench.scenarios.filled_tables import (
    EVENTS_PER_JOB,
    RARE_JOBS,
    RARE_LABEL,
    fill_finished_jobs,
)
from tests.bench.scenarios.observation import RUNS_PER_GROUP, fill_open_runs, measure_pass
from tests.bench.scenarios.retention import prune_all
from tests.bench.scenarios.servers import BenchServers
from tests.bench.scenarios.simulated_hub import run_simulated_hub
from tests.support.programs import run_for_result

RATIO = Target("claim_p50_ms", "ours", "theirs", 1.5)
RATE = Target("ends_per_second", "ours", "theirs", 2.0, is_rate=True)
DIFFERENCE = Target("p50_ms", "ours", "theirs", 3.0, is_difference=True)
LIMIT = Target("cpu_percent", "ours", None, 4)


def compare_one(target: Target, ours: list[float], theirs: list[float]) -> Comparison:
    """Compare measurements with one target."""
    rounds: Rounds = {
        "ours": [{target.measure: value} for value in ours],
        "theirs": [{target.measure: value} for value in theirs],
    }
    (comparison,) = compare(rounds, [target])
    return comparison


def test_a_ratio_is_of_the_same_round() -> None:
    """A machine that was slow for one round was slow for both."""
    comparison = compare_one(RATIO, [10, 100, 30], [10, 50, 30])

    assert comparison.values == [1, 2, 1]
    assert (comparison.value, comparison.is_met) == (1, True)


def test_a_rate_is_met_by_more_and_a_time_by_less() -> None:
    """The limit of a rate is its least."""
    assert compare_one(RATE, [4.0], [2.0]).is_met
    assert not compare_one(RATE, [3.0], [2.0]).is_met
    assert compare_one(RATIO, [3.0], [2.0]).is_met
    assert not compare_one(RATIO, [4.0], [2.0]).is_met


def test_a_difference_is_added_to_the_peers() -> None:
    """A launch may cost so many milliseconds more, however quick the machine is."""
    comparison = compare_one(DIFFERENCE, [12, 16], [10, 10])

    assert comparison.values == [2, 6]
    assert (comparison.value, comparison.is_met) == (4, False)


def test_a_limit_is_for_ours_alone() -> None:
    """Nothing is compared, and a measure of nothing at all is one."""
    assert compare_one(LIMIT, [0.0, 3.0, 5.0], []).values == [0.0, 3.0, 5.0]
    assert not compare_one(LIMIT, [4.1], []).is_met


@pytest.mark.parametrize("target", [RATIO, DIFFERENCE, LIMIT])
def test_a_target_without_a_measurement_is_left_out(target: Target) -> None:
    """Nobody reads that what was not measured is met."""
    assert compare({}, [target]) == []
    assert compare({"ours": [{"another": 1.0}], "theirs": [{"another": 1.0}]}, [target]) == []
    assert compare({"theirs": [{target.measure: 1.0}]}, [target]) == []


def test_a_row_says_how_the_limit_is_meant() -> None:
    """A multiple, a difference and a quantity look different."""
    rows = {
        format_row(Comparison(RATIO, [1.0, 2.0])),
        format_row(Comparison(RATE, [3.0])),
        format_row(Comparison(DIFFERENCE, [1.0, -2.0])),
        format_row(Comparison(LIMIT, [3.5, 250.0, 4.5])),
    }

    assert {row[3:] for row in rows} == {
        ("≤ 1.5 x", "1.50 x", "1.00 x to 2.00 x", "met"),
        ("≥ 2 x", "3.00 x", "3.00 x to 3.00 x", "met"),
        ("≤ +3 ms", "-0.50 ms", "-2.00 ms to +1.00 ms", "met"),
        ("≤ 4 %", "4.50 %", "3.50 % to 250 %", "not met"),
    }


def test_a_missed_target_says_what_keeps_ours_from_it() -> None:
    """Nobody looks for a fault in ours where the floor is another's."""
    target = Target("cpu_percent", "ours", None, 4, note="the floor of the SDK")

    verdicts = [format_row(Comparison(target, [value]))[-1] for value in (4.0, 4.1)]

    assert verdicts == ["met", "not met: the floor of the SDK"]


def test_a_number_has_as_many_digits_as_it_is_worth() -> None:
    """Nobody reads the hundredths of a million."""
    assert [format_number(value) for value in (0, 0.1234, 99.5, 1_234_567.8)] == [
        "0",
        "0.12",
        "99.50",
        "1,234,568",
    ]


def test_measurements_are_sorted_by_their_names() -> None:
    """In the order of the rounds."""
    assert collect([("a", {"x": 1.0}), ("b", {"x": 2.0}), ("a", {"x": 3.0})]) == {
        "a": [{"x": 1.0}, {"x": 3.0}],
        "b": [{"x": 2.0}],
    }


def measure_nothing(_: BenchRun) -> Rounds:
    return {}


def test_the_page_has_every_target_and_a_picture_of_the_ratios(tmp_path: Path) -> None:
    """The picture has no axis for milliseconds and percents together."""
    page = tmp_path / "performance.md"
    scenario = Scenario("claims", "Claims", "What is done.", measure_nothing)
    rounds: Rounds = {"ours": [{"claim_p50_ms": 2.0, "jobs": 3}], "theirs": [{"claim_p50_ms": 1}]}

    write_page(
        page,
        command="the command",
        comparisons=[Comparison(RATIO, [2.0]), Comparison(LIMIT, [1.0])],
        measured=[(scenario, rounds)],
    )

    text = page.read_text("utf-8")
    assert "1 of 2 targets are met." in text
    assert "| claim of one job, median | ours | theirs | ≤ 1.5 x | 2.00 x |" in text
    assert "| CPU, in percent of one core | ours | - | ≤ 4 % | 1.00 % |" in text
    assert "### Claims\n\nWhat is done.\n\n| | claim p50 ms | jobs |\n|---|---|---|" in text
    assert "| ours | 2.00 | 3.00 |\n| theirs | 1.00 | · |" in text
    assert (tmp_path / "images" / "performance.png").stat().st_size > 0


def test_rows_with_other_measures_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    """One table with every column would be mostly empty, and wider than a page."""
    rounds: Rounds = {
        "a job": [{"bytes": 10.0}],
        "a poll": [{"calls": 2.0}],
        "b job": [{"bytes": 4.0}],
    }

    write_page(tmp_path / "page.md", command="c", comparisons=[], measured=[(SCENARIOS[0], rounds)])

    page = (tmp_path / "page.md").read_text("utf-8")
    assert "| | bytes |\n|---|---|\n| a job | 10.00 |\n| b job | 4.00 |\n\n| | calls |" in page


class FakeQueue:
    """Runs its jobs in the drain, apart from those that it loses."""

    name = "fake"
    drains_while_submitting = False

    def __init__(self, lost: int) -> None:
        self._jobs = -lost

    async def submit(self, key: str | None) -> None:
        self._jobs += 1

    async def drain(self, runs: int) -> None:
        for _ in range(self._jobs):
            SINK.hit(None)

    @asynccontextmanager
    async def run_worker(self) -> AsyncGenerator[None]:
        raise AssertionError("no wake-up is to be measured")
        yield


async def test_only_what_the_load_has_is_measured() -> None:
    """A program that only drains has no time of a single submit, and 0 ms would be a lie."""
    result = await measure(FakeQueue(lost=0), LoadSize(concurrent=4))

    assert result.ends_per_second is not None
    assert (result.submit_p50_ms, result.wake_p50_ms) == (None, None)


async def test_a_queue_that_leaves_jobs_undone_is_not_measured() -> None:
    """It would look quick: the jobs of docket had one name once, and were one job."""
    with pytest.raises(RuntimeError, match="left 3 of 4 jobs"):
        await measure(FakeQueue(lost=3), LoadSize(sequential=2, concurrent=2))


PRINT_TWO_LINES: Final = "print('a warning'); print('{\"jobs\": 3}')"


def test_the_result_of_a_program_is_its_last_line() -> None:
    """Libraries write warnings before it."""
    command = [sys.executable, "-c", PRINT_TWO_LINES]

    assert run_for_result(command, timeout=timedelta(minutes=1)) == {"jobs": 3}


def test_a_program_that_fails_has_no_result_but_a_reason() -> None:
    """Whatever it had printed before does not count."""
    command = [sys.executable, "-c", f"{PRINT_TWO_LINES}; raise SystemExit('no room')"]

    with pytest.raises(RuntimeError, match="no room"):
        run_for_result(command, timeout=timedelta(minutes=1))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_reader_has_words_for_every_measure_with_a_target(scenario: Scenario) -> None:
    """The page is written at the end of an hour, which is too late to miss a word."""
    for target in scenario.targets:
        assert format_row(Comparison(target, [1.0]))[0]


def test_scenarios_are_chosen_by_their_names() -> None:
    """One scenario takes a minute, and all of them an hour."""
    options = cli.parse_arguments(["--quick", "--only", "growth,waiters"])

    assert [scenario.name for scenario in options.scenarios] == ["growth", "waiters"]
    assert options.size is Size.QUICK
    with pytest.raises(SystemExit):
        cli.parse_arguments(["--only", "growth,nonsense"])


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ([], cli.PAGE),
        (["--quick"], cli.PAGE),
        (["--tiny"], None),
        (["--only", "growth"], None),
        (["--only", "growth", "--page", "here.md"], Path("here.md")),
    ],
)
def test_only_a_complete_run_replaces_the_page(arguments: list[str], page: Path | None) -> None:
    """What was not measured would be missing from it."""
    assert cli.parse_arguments(arguments).page == page


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m tests.bench",
        "python3 -m tests.bench --quick",
        "python3 -m tests.bench --tiny --only growth,idle",
    ],
)
def test_the_page_names_the_command_that_measured(command: str) -> None:
    """A page of a tiny run says so."""
    options = cli.parse_arguments(command.split()[3:])

    assert cli.describe_command(options) == command


@pytest.fixture
def servers(tmp_path: Path, database_url: str, valkey_url: str) -> BenchServers:
    """The servers of the tests, as a scenario has its own."""
    return BenchServers(tmp_path, database_url, valkey_url)


async def test_finished_jobs_are_written_whole_and_deleted_whole(servers: BenchServers) -> None:
    """A new column or constraint is noticed here, and not at the end of an hour."""
    count = 3 * RARE_JOBS
    await fill_finished_jobs(
        servers.database_url,
        subject_id="bench",
        count=count,
        oldest=timedelta(days=60),
        newest=timedelta(days=40),
    )

    async with (
        servers.open_database(DatabaseRole.WORKER) as database,
        database.transaction() as tx,
    ):
        rare = await tx.fetchval("SELECT count(*) FROM job WHERE labels @> $1", RARE_LABEL)
        events = await tx.fetchval("SELECT count(*) FROM job_event")
        is_told = await tx.fetchval(
            "SELECT tgenabled = 'O' FROM pg_trigger WHERE tgname = 'tell_of_event'"
        )
    assert (rare, events, is_told) == (RARE_JOBS, EVENTS_PER_JOB * count, True)
    measures = await prune_all(servers)
    assert measures["jobs_per_second"] > 0


async def test_a_pass_over_waiting_runs_makes_one_call_a_group(servers: BenchServers) -> None:
    """The simulated Hub is one that the poll loop understands: it inspects and ends no run."""
    groups = 2
    await fill_open_runs(servers, servers.database_url, groups, "SCHEDULING")

    with run_simulated_hub(jobs=RUNS_PER_GROUP, stage="SCHEDULING") as hub_url:
        measures = await measure_pass(servers, servers.database_url, hub_url)

    runs = groups * RUNS_PER_GROUP
    assert (measures["runs"], measures["hub_calls_percent"]) == (runs, 100 * groups / runs)
