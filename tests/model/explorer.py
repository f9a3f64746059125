"""A search through every play of a game: all reachable states, and the shortest way to each."""

import gc
from collections import deque
from collections.abc import Callable, Container, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from tests.model.state import ModelRules, ModelState
from tests.model.transitions import Transition, next_transitions

_MAX_STATES: Final = 30_000
"""A game with more states has most likely no end: something is counted without a bound."""


class Edge(NamedTuple):
    """A transition from one state."""

    source: ModelState
    transition: Transition


@dataclass(frozen=True, slots=True)
class StateGraph:
    """The reachable states, in the order of their distance from the start."""

    first_step_to: dict[ModelState, Edge | None]
    """The step that led first to each state; None for the start."""
    transitions_from: dict[ModelState, list[Transition]]

    def steps(self) -> Generator[Edge]:
        """Yield every step there is."""
        for state, transitions in self.transitions_from.items():
            for transition in transitions:
                yield Edge(state, transition)

    def trace_to(self, state: ModelState) -> list[str]:
        """Return the transitions that lead to a state."""
        trace: list[str] = []
        step = self.first_step_to[state]
        while step is not None:
            trace.append(str(step.transition))
            step = self.first_step_to[step.source]
        return trace[::-1]

    def shortest_trace(self, is_wrong: Callable[[ModelState], bool]) -> list[str]:
        """Return the shortest trace to a wrong state; an empty one if there is none."""
        wrong = next(filter(is_wrong, self.transitions_from), None)
        return [] if wrong is None else self.trace_to(wrong)

    def states_leading_to(
        self, goals: Container[ModelState], is_allowed: Callable[[Edge], bool]
    ) -> set[ModelState]:
        """Return the states from which a goal can be reached by allowed steps alone."""
        sources: dict[ModelState, list[ModelState]] = {state: [] for state in self.transitions_from}
        for step in self.steps():
            if is_allowed(step):
                sources[step.transition.after].append(step.source)
        leading = {state for state in self.transitions_from if state in goals}
        queue = deque(leading)
        while queue:
            for state in sources[queue.popleft()]:
                if state not in leading:
                    leading.add(state)
                    queue.append(state)
        return leading


@cache
def explore(rules: ModelRules) -> StateGraph:
    """Make every transition in every order."""
    start = ModelState()
    first_step_to: dict[ModelState, Edge | None] = {start: None}
    transitions_from: dict[ModelState, list[Transition]] = {}
    queue = deque([start])
    with _garbage_collection_disabled():
        while queue:
            assert len(first_step_to) < _MAX_STATES, (
                "the search does not end: something is counted without a bound"
            )
            state = queue.popleft()
            transitions_from[state] = list(next_transitions(state, rules))
            for transition in transitions_from[state]:
                if transition.after not in first_step_to:
                    first_step_to[transition.after] = Edge(state, transition)
                    queue.append(transition.after)
    return StateGraph(first_step_to, transitions_from)


@contextmanager
def _garbage_collection_disabled() -> Generator[None]:
    # States make no reference cycles; the collector would take longer than the search.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
