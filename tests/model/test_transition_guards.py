"""A comparison of the model's transitions with the triggers of the database, pair by pair.

The guards are asked, not read: each pair of states is tried on a bare copy of the table.
"""

from collections.abc import Iterable
from itertools import permutations
from typing import Final

import asyncpg

from schema.jobs.run_tables import RunState
from schema.jobs.tables import JobState
from tests.model.explorer import explore
from tests.model.state import ModelRules

Pairs = set[tuple[str, str]]

EXPLORED_RULES: Final = (ModelRules(relaunch=True), ModelRules(refusals_lie=True))
"""Between them they make every move that ours may come to."""

UNREACHED_JOB_TRANSITIONS: Final = {
    ("queued", "failed"): "No move makes it: for whoever must end a job by hand, at psql.",
}
"""What the guard of jobs allows and the model never does, each with the reason."""


async def read_allowed_transitions(url: str, table: str, states: Iterable[str]) -> Pairs:
    """Ask the guard of a table which moves it lets a `hub_job` make."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"CREATE TEMP TABLE probe AS TABLE {table} WITH NO DATA;"
            f"ALTER TABLE probe ADD COLUMN IF NOT EXISTS version bigint;"
            f"CREATE TRIGGER probe BEFORE UPDATE ON probe"
            f" FOR EACH ROW EXECUTE FUNCTION {table}_guard()"
        )
        pairs = permutations(states, 2)
        return {(old, new) for old, new in pairs if await _is_allowed(connection, old, new)}
    finally:
        await connection.close()


async def _is_allowed(connection: asyncpg.Connection, old: str, new: str) -> bool:
    await connection.execute("TRUNCATE probe")
    await connection.execute(
        "INSERT INTO probe (kind, attempt, version, state) VALUES ('hub_job', 1, 1, $1)", old
    )
    try:
        await connection.execute("UPDATE probe SET version = version + 1, state = $1", new)
    except asyncpg.RaiseError:
        return False
    return True


def run_transitions_explored() -> Pairs:
    """Return the moves of runs in the plays, each attempt compared with itself."""
    return {
        (old.run, new.run)
        for rules in EXPLORED_RULES
        for before, move in explore(rules).steps()
        for old, new in zip(before.attempts, move.after.attempts, strict=False)
        if old.run is not new.run
    }


def job_transitions_explored() -> Pairs:
    """Return the moves of jobs in the plays."""
    return {
        (before.job, move.after.job)
        for rules in EXPLORED_RULES
        for before, move in explore(rules).steps()
        if before.job is not move.after.job
    }


async def test_the_guard_of_jobs_allows_just_what_the_model_does(database_url: str) -> None:
    """A move that only one of them knows is a proof about another program."""
    guarded = await read_allowed_transitions(database_url, "job", JobState)

    assert job_transitions_explored() - guarded == set()
    assert guarded - job_transitions_explored() == UNREACHED_JOB_TRANSITIONS.keys()


async def test_the_guard_of_runs_allows_just_what_the_model_does(database_url: str) -> None:
    """The same for the runs: a fact the model learns can be written, and nothing else can."""
    guarded = await read_allowed_transitions(database_url, "remote_run", RunState)

    assert run_transitions_explored() - guarded == set()
    assert guarded - run_transitions_explored() == set()
