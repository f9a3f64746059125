"""What must never happen: each function tells the shortest story of how it does, or none."""

from collections.abc import Callable

from schema.jobs.run_tables import Desired, Origin, RunState
from schema.jobs.tables import FINAL, JobState
from tests.model.protocol import Actor
from tests.model.search import Plays, Step, play
from tests.model.world import OPEN, Attempt, Rules, World

_UNFORCED = frozenset({Actor.SUBJECT, Actor.FATE, Actor.REMOTE})
"""Who may make a move, but owes none."""


def second_job(rules: Rules) -> list[str]:
    """Two jobs upstream were created for one of ours."""
    return play(rules).first(lambda world: _created(world) > 1)


def third_job(rules: Rules) -> list[str]:
    """Three jobs upstream were created for one of ours."""
    return play(rules).first(lambda world: _created(world) > 2)


def dead_end(rules: Rules) -> list[str]:
    """From here, what is owed cannot lead to where the job is over and nothing of it is left.

    No cancel and no crash may have to come to help, nor may what must die have to end by itself.
    """
    plays = play(rules)
    over = {world for world in plays.ahead if _is_over(world)}
    leading = plays.leading_to(over, by=_is_owed)
    return plays.first(lambda world: world not in leading)


def orphan(rules: Rules) -> list[str]:
    """A job lives upstream, nobody owes a move, and no bound run leads to it."""
    return _at_rest(
        rules, lambda world: any(attempt.run is not RunState.BOUND for attempt in _alive(world))
    )


def left_alive(rules: Rules) -> list[str]:
    """A job lives upstream, nobody owes a move, and no job of ours waits for its end."""
    return _at_rest(
        rules,
        lambda world: any(
            world.job is not JobState.RUNNING or not attempt.is_awaited for attempt in _alive(world)
        ),
    )


def alive_after_cancel(rules: Rules) -> list[str]:
    """A job lives upstream, nobody owes a move, and ours was called off."""
    return _at_rest(rules, lambda world: world.job is JobState.CANCELLED and bool(_alive(world)))


def undone_ending(rules: Rules) -> list[str]:
    """A job that was over moved on."""
    plays = play(rules)
    for before, move in plays.steps():
        if before.job in FINAL and move.after.job is not before.job:
            return [*plays.story(before), str(move)]
    return []


def second_open_run(rules: Rules) -> list[str]:
    """A job has two runs of its own that are or may be alive."""
    return play(rules).first(lambda world: len(_open(world)) > 1)


def unowned(rules: Rules) -> list[str]:
    """A job waits for a run that it does not have, or is over and its run has no kill order."""

    def is_unowned(world: World) -> bool:
        if world.job in FINAL:
            return any(attempt.desired is Desired.ALIVE for attempt in _open(world))
        return (world.job is JobState.QUEUED) is bool(_open(world))

    return play(rules).first(is_unowned)


def _at_rest(rules: Rules, is_wrong: Callable[[World], bool]) -> list[str]:
    plays = play(rules)
    return plays.first(lambda world: is_wrong(world) and _rests(plays, world))


def _rests(plays: Plays, world: World) -> bool:
    return all(move.actor in _UNFORCED for move in plays.ahead[world])


def _is_over(world: World) -> bool:
    closed = all(attempt.run not in OPEN for attempt in world.attempts)
    return world.job in FINAL and closed and not _alive(world)


def _is_owed(step: Step) -> bool:
    before, move = step
    if move.actor is Actor.REMOTE:
        return before.job is JobState.RUNNING and before.attempt(move.number).is_awaited
    return move.actor not in _UNFORCED


def _created(world: World) -> int:
    return sum(attempt.created for attempt in world.attempts)


def _alive(world: World) -> list[Attempt]:
    return [attempt for attempt in world.attempts if attempt.alive]


def _open(world: World) -> list[Attempt]:
    ours = [attempt for attempt in world.attempts if attempt.origin is Origin.OURS]
    return [attempt for attempt in ours if attempt.run in OPEN]
