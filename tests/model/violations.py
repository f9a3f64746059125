"""Violations of the promises: each function returns the shortest play that leads to one."""

from collections.abc import Callable

from schema.jobs.run_tables import DesiredState, RunOrigin, RunState
from schema.jobs.tables import FINAL_STATES, JobState
from tests.model.explorer import Edge, StateGraph, explore
from tests.model.state import OPEN_RUN_STATES, Attempt, ModelRules, ModelState
from tests.model.transitions import Actor

_OPTIONAL_ACTORS = frozenset({Actor.SUBJECT, Actor.CRASH, Actor.REMOTE_JOB})
"""Who may make a move, but owes none."""


def trace_to_second_job(rules: ModelRules) -> list[str]:
    """Two jobs upstream were created for one of ours."""
    return explore(rules).shortest_trace(lambda world: _count_created(world) > 1)


def trace_to_third_job(rules: ModelRules) -> list[str]:
    """Three jobs upstream were created for one of ours."""
    return explore(rules).shortest_trace(lambda world: _count_created(world) > 2)


def trace_to_dead_end(rules: ModelRules) -> list[str]:
    """From here, what is owed cannot lead to where the job is over and nothing of it is left.

    No cancel and no crash may have to come to help, nor may what must die have to end by itself.
    """
    plays = explore(rules)
    over = {world for world in plays.transitions_from if _is_over(world)}
    leading = plays.states_leading_to(over, is_allowed=_is_owed)
    return plays.shortest_trace(lambda world: world not in leading)


def trace_to_orphan(rules: ModelRules) -> list[str]:
    """A job lives upstream, nobody owes a move, and no bound run leads to it."""
    return _trace_to_resting_state(
        rules,
        lambda world: any(attempt.run is not RunState.BOUND for attempt in _alive_attempts(world)),
    )


def trace_to_unawaited_job(rules: ModelRules) -> list[str]:
    """A job lives upstream, nobody owes a move, and no job of ours waits for its end."""
    return _trace_to_resting_state(
        rules,
        lambda world: any(
            world.job is not JobState.RUNNING or not attempt.is_awaited
            for attempt in _alive_attempts(world)
        ),
    )


def trace_to_job_alive_after_cancel(rules: ModelRules) -> list[str]:
    """A job lives upstream, nobody owes a move, and ours was called off."""
    return _trace_to_resting_state(
        rules, lambda world: world.job is JobState.CANCELLED and bool(_alive_attempts(world))
    )


def trace_to_undone_ending(rules: ModelRules) -> list[str]:
    """A job that was over moved on."""
    plays = explore(rules)
    for before, move in plays.steps():
        if before.job in FINAL_STATES and move.after.job is not before.job:
            return [*plays.trace_to(before), str(move)]
    return []


def trace_to_second_open_run(rules: ModelRules) -> list[str]:
    """A job has two runs of its own that are or may be alive."""
    return explore(rules).shortest_trace(lambda world: len(_open_attempts(world)) > 1)


def trace_to_unowned_job(rules: ModelRules) -> list[str]:
    """A job waits for a run that it does not have, or is over and its run has no kill order."""

    def is_unowned(world: ModelState) -> bool:
        if world.job in FINAL_STATES:
            return any(attempt.desired is DesiredState.ALIVE for attempt in _open_attempts(world))
        return (world.job is JobState.QUEUED) is bool(_open_attempts(world))

    return explore(rules).shortest_trace(is_unowned)


def _trace_to_resting_state(rules: ModelRules, is_wrong: Callable[[ModelState], bool]) -> list[str]:
    plays = explore(rules)
    return plays.shortest_trace(lambda world: is_wrong(world) and _is_at_rest(plays, world))


def _is_at_rest(plays: StateGraph, world: ModelState) -> bool:
    return all(move.actor in _OPTIONAL_ACTORS for move in plays.transitions_from[world])


def _is_over(world: ModelState) -> bool:
    closed = all(attempt.run not in OPEN_RUN_STATES for attempt in world.attempts)
    return world.job in FINAL_STATES and closed and not _alive_attempts(world)


def _is_owed(step: Edge) -> bool:
    before, move = step
    if move.actor is Actor.REMOTE_JOB:
        return before.job is JobState.RUNNING and before.attempt(move.number).is_awaited
    return move.actor not in _OPTIONAL_ACTORS


def _count_created(world: ModelState) -> int:
    return sum(attempt.created for attempt in world.attempts)


def _alive_attempts(world: ModelState) -> list[Attempt]:
    return [attempt for attempt in world.attempts if attempt.alive]


def _open_attempts(world: ModelState) -> list[Attempt]:
    ours = [attempt for attempt in world.attempts if attempt.origin is RunOrigin.OURS]
    return [attempt for attempt in ours if attempt.run in OPEN_RUN_STATES]
