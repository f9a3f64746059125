"""The readings of the footprint, and the jobs that are read."""

from pathlib import Path
from typing import Final

import pytest

from schema.accounts.row_security import DatabaseRole
from schema.jobs.tables import JobKind
from tests.bench.scenarios.finishing_hub import make_log, run_finishing_hub
from tests.bench.scenarios.footprint import NOOP_KIND, JobLoad
from tests.bench.scenarios.servers import BenchServers
from tests.bench.scenarios.table_growth import StatementCount, count_statements

JOBS: Final = 5
LOG_LINES: Final = 3
LOG: Final = """\
service LOG:  statement: BEGIN
service LOG:  execute __asyncpg_stmt_1__:\x20
\tINSERT INTO job VALUES ($1)
service DETAIL:  Parameters: $1 = 'worker LOG:  statement: BEGIN'
worker LOG:  statement: BEGIN
worker LOG:  execute __asyncpg_stmt_7__: SELECT 1
service LOG:  statement:\x20
\tSET LOCAL synchronous_commit = off;
\tCOMMIT;
\tSELECT 1
worker LOG:  statement: ROLLBACK
meter LOG:  statement: VACUUM
"""


@pytest.fixture
def servers(tmp_path: Path, database_url: str, valkey_url: str) -> BenchServers:
    """The servers of the tests, as the scenario has its own."""
    return BenchServers(tmp_path, database_url, valkey_url)


def test_statements_are_counted_by_the_program_that_has_sent_them() -> None:
    """A statement may begin with an empty line, and one that ends a transaction is none."""
    assert count_statements(LOG) == {
        "service": StatementCount(transactions=1, statements=1, round_trips=3),
        "worker": StatementCount(transactions=0, statements=1, round_trips=3),
        "meter": StatementCount(transactions=0, statements=1, round_trips=1),
    }


@pytest.mark.parametrize(("kind", "lines"), [(NOOP_KIND, 0), (JobKind.HUB_JOB, JOBS * LOG_LINES)])
async def test_every_measured_job_succeeds_with_its_log(
    servers: BenchServers, kind: str, lines: int
) -> None:
    """Else the footprint would be that of a failure; each job is inserted, claimed and ended."""
    with run_finishing_hub(LOG_LINES) as (hub, hub_url):
        load = JobLoad(servers, servers.database_url, kind, hub_url)
        meter = load.make_meter()
        await load.lend_tokens()
        before = await meter.read_tables()
        await load.submit(JOBS)
        await load.run_to_end()
        after = await meter.read_tables()

    async with servers.open_database(DatabaseRole.WORKER) as database, database.transaction() as tx:
        stored_lines = await tx.fetchval("SELECT coalesce(sum(line_count), 0) FROM log_chunk")
    assert stored_lines == lines
    assert hub.requests["create"] == (JOBS if kind == JobKind.HUB_JOB else 0)
    assert after["job"].updates - before["job"].updates >= 2 * JOBS
    assert after["job_event"].heap_bytes > before["job_event"].heap_bytes


def test_the_lines_of_a_log_are_different_and_always_the_same() -> None:
    """Equal lines would be compressed to nothing, and others each time could not be compared."""
    assert len(set(make_log(100))) == 100
    assert make_log(100) == make_log(100)
