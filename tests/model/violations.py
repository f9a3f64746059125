"""Violations of the promises: each function returns the shortest play that leads to one."""

from collections.abc import Callable

from schema.jobs.run_tables import DesiredState, RunOrigin, RunState
from schema.jobs.tables import FINAL_STATES, JobState
from tests.model.explorer import Edge, StateGraph, explore
from tests.model.state import OPEN_RUN_STATES, Attempt, ModelRules, ModelState
from tests.model.transitions import Actor

_OPTIONAL_ACTORS = frozenset({Actor.SUBJECT, Actor.CRASH, Actor.REMOTE_JOB})
"""Who may make a transition, but does not have to."""


def trace_to_second_job(rules: ModelRules) -> list[str]:
    """Two jobs upstream were created for one of ours."""
    return explore(rules).shortest_trace(lambda state: _count_created(state) > 1)


def trace_to_third_job(rules: ModelRules) -> list[str]:
    """Three jobs upstream were created for one of ours."""
    return explore(rules).shortest_trace(lambda state: _count_created(state) > 2)


def trace_to_dead_end(rules: ModelRules) -> list[str]:
    """The transitions that are owed do not lead to a final state in which nothing is alive.

    A cancel or a crash is not owed, and a job that must be killed is not owed to end by itself.
    """
    graph = explore(rules)
    over = {state for state in graph.transitions_from if _is_over(state)}
    leading = graph.states_leading_to(over, is_allowed=_is_owed)
    return graph.shortest_trace(lambda state: state not in leading)


def trace_to_orphan(rules: ModelRules) -> list[str]:
    """A job lives upstream, no transition is owed, and no bound run leads to it."""
    return _trace_to_resting_state(
        rules,
        lambda state: any(attempt.run is not RunState.BOUND for attempt in _alive_attempts(state)),
    )


def trace_to_unawaited_job(rules: ModelRules) -> list[str]:
    """A job lives upstream, no transition is owed, and no job of ours waits for its end."""
    return _trace_to_resting_state(
        rules,
        lambda state: any(
            state.job is not JobState.RUNNING or not attempt.is_awaited
            for attempt in _alive_attempts(state)
        ),
    )


def trace_to_job_alive_after_cancel(rules: ModelRules) -> list[str]:
    """A job lives upstream, no transition is owed, and ours is cancelled."""
    return _trace_to_resting_state(
        rules, lambda state: state.job is JobState.CANCELLED and bool(_alive_attempts(state))
    )


def trace_to_undone_ending(rules: ModelRules) -> list[str]:
    """A job left its final state."""
    graph = explore(rules)
    for before, transition in graph.steps():
        if before.job in FINAL_STATES and transition.after.job is not before.job:
            return [*graph.trace_to(before), str(transition)]
    return []


def trace_to_second_open_run(rules: ModelRules) -> list[str]:
    """A job has two runs of its own that are or may be alive."""
    return explore(rules).shortest_trace(lambda state: len(_open_attempts(state)) > 1)


def trace_to_unowned_job(rules: ModelRules) -> list[str]:
    """A job waits for a run that it does not have, or is over and its run has no kill order."""

    def is_unowned(state: ModelState) -> bool:
        if state.job in FINAL_STATES:
            return any(attempt.desired is DesiredState.ALIVE for attempt in _open_attempts(state))
        return (state.job is JobState.QUEUED) is bool(_open_attempts(state))

    return explore(rules).shortest_trace(is_unowned)


def _trace_to_resting_state(rules: ModelRules, is_wrong: Callable[[ModelState], bool]) -> list[str]:
    graph = explore(rules)
    return graph.shortest_trace(lambda state: is_wrong(state) and _is_at_rest(graph, state))


def _is_at_rest(graph: StateGraph, state: ModelState) -> bool:
    return all(transition.actor in _OPTIONAL_ACTORS for transition in graph.transitions_from[state])


def _is_over(state: ModelState) -> bool:
    closed = all(attempt.run not in OPEN_RUN_STATES for attempt in state.attempts)
    return state.job in FINAL_STATES and closed and not _alive_attempts(state)


def _is_owed(step: Edge) -> bool:
    before, transition = step
    if transition.actor is Actor.REMOTE_JOB:
        return before.job is JobState.RUNNING and before.attempt(transition.number).is_awaited
    return transition.actor not in _OPTIONAL_ACTORS


def _count_created(state: ModelState) -> int:
    return sum(attempt.created for attempt in state.attempts)


def _alive_attempts(state: ModelState) -> list[Attempt]:
    return [attempt for attempt in state.attempts if attempt.alive]


def _open_attempts(state: ModelState) -> list[Attempt]:
    ours = [attempt for attempt in state.attempts if attempt.origin is RunOrigin.OURS]
    return [attempt for attempt in ours if attempt.run in OPEN_RUN_STATES]
