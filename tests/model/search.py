"""Every play of a game: all worlds that can come to be, and the shortest way to each."""

import gc
from collections import deque
from collections.abc import Callable, Container, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from tests.model.protocol import Move, moves
from tests.model.world import Rules, World

_MOST_WORLDS: Final = 30_000
"""A game with more of them has most likely no end: something is counted without a bound."""


class Step(NamedTuple):
    """A move made in a world."""

    before: World
    move: Move


@dataclass(frozen=True, slots=True)
class Plays:
    """The worlds reached, in the order of their distance from the start."""

    came_by: dict[World, Step | None]
    """The step that led first to each; none for the start."""
    ahead: dict[World, list[Move]]

    def steps(self) -> Generator[Step]:
        """Yield every step there is."""
        for world, following in self.ahead.items():
            for move in following:
                yield Step(world, move)

    def story(self, world: World) -> list[str]:
        """Tell how a world comes to be, move by move."""
        told: list[str] = []
        step = self.came_by[world]
        while step is not None:
            told.append(str(step.move))
            step = self.came_by[step.before]
        return told[::-1]

    def first(self, is_wrong: Callable[[World], bool]) -> list[str]:
        """Tell the shortest story that ends in a wrong world; an empty one if there is none."""
        wrong = next(filter(is_wrong, self.ahead), None)
        return [] if wrong is None else self.story(wrong)

    def leading_to(self, goals: Container[World], by: Callable[[Step], bool]) -> set[World]:
        """Return the worlds from which a goal can be reached by such steps alone."""
        behind: dict[World, list[World]] = {world: [] for world in self.ahead}
        for step in self.steps():
            if by(step):
                behind[step.move.after].append(step.before)
        leading = {world for world in self.ahead if world in goals}
        found = deque(leading)
        while found:
            for world in behind[found.popleft()]:
                if world not in leading:
                    leading.add(world)
                    found.append(world)
        return leading


@cache
def play(rules: Rules) -> Plays:
    """Make every move in every order."""
    start = World()
    came_by: dict[World, Step | None] = {start: None}
    ahead: dict[World, list[Move]] = {}
    found = deque([start])
    with _uncollected():
        while found:
            assert len(came_by) < _MOST_WORLDS, "this game has no end that a search would reach"
            world = found.popleft()
            ahead[world] = list(moves(world, rules))
            for move in ahead[world]:
                if move.after not in came_by:
                    came_by[move.after] = Step(world, move)
                    found.append(move.after)
    return Plays(came_by, ahead)


@contextmanager
def _uncollected() -> Generator[None]:
    # Worlds make no cycles, and to look for some over and over takes longer than the search.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
