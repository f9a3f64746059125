"""The launch and the cancel of one job, as a game against everything that can go wrong.

What a move of ours does stands in the function of its name in `schema`; here it is said once more,
without SQL, so that `tests.model.search` can make every move in every order. Who moves:

    subject   cancels                       hub      creates or refuses, and lists late
    worker    claims, sends once, settles   attend   doubts, finds by label, gives up, kills
    fate      kills a worker                observe  sees ends, binds what it sees, catches the late
    network   loses a request               remote   a job upstream ends by itself

A paused worker is one that makes no move for a while, and a worker told to stop makes a move that
it has anyway: it says that it sent nothing, or that it has no clear answer. What is assumed:

-   Of clocks: nothing. A lease may lapse at any moment, under a worker that is merely slow as well,
    and an unknown run may be given up at any moment. Only `Rules.settled` assumes that it is given
    up when nothing of it is in flight, unsent in a paused worker, or created and not listed.
-   Of the network: a request takes as long as it likes, or is lost, and so is its answer. Nothing
    repeats a request on its way; an intermediary that did could make two jobs of one request.
-   Of the Hub: a 4xx means that nothing was created, unless `Rules.refusals_lie`. What was created
    is listed some day, with the label it was given, while it is still being looked for: the late
    watch here has no end. A job is known by its id from the moment that the id was answered, or a
    404 for it is not believed meanwhile. A job that is killed, often enough, stops, for good.
-   Of Postgres: what is committed stays, and each move is one atomic step that sees all before it.
-   Of people: a subject whose token is refused lends another one before the late watch is over.
-   Of size: what holds for `MOST_TRIES` launches that created nothing holds for more of them.
"""

from collections.abc import Callable, Generator
from enum import StrEnum
from typing import Final, NamedTuple

from schema.jobs.run_tables import Desired, Origin, RunState
from schema.jobs.tables import FINAL, JobState
from tests.model.world import OPEN, Attempt, Flaw, Hand, Rules, World

MOST_TRIES: Final = 2
"""Launches that created nothing before the job fails; the product has a few more."""


class Actor(StrEnum):
    """Who makes a move."""

    SUBJECT = "subject"
    WORKER = "worker"
    FATE = "fate"
    NETWORK = "network"
    HUB = "hub"
    REMOTE = "remote"
    ATTEND = "attend"
    OBSERVE = "observe"


class Move(NamedTuple):
    """A move, and the world after it."""

    actor: Actor
    does: str
    number: int
    after: World

    def __str__(self) -> str:
        whole = self.actor is Actor.SUBJECT
        return f"{self.actor} {self.does}" if whole else f"{self.actor} {self.does} ({self.number})"


Steps = Generator[tuple[str, World]]


def moves(world: World, rules: Rules) -> Generator[Move]:
    """Yield every move that somebody may make next."""
    for number in range(1, len(world.attempts) + 1):
        for actor, steps in _STEPS.items():
            for does, after in steps(world, number, rules):
                yield Move(actor, does, number, after)
    newest = len(world.attempts)
    if world.job is JobState.QUEUED:
        yield Move(Actor.WORKER, "claims", newest + 1, claim(world))
    if world.job not in FINAL:
        yield Move(Actor.SUBJECT, "cancels", newest, cancel(world, rules))


def claim(world: World) -> World:
    return world._replace(job=JobState.LAUNCHING, attempts=(*world.attempts, Attempt()))


def cancel(world: World, rules: Rules) -> World:
    after = world._replace(job=JobState.CANCELLED)
    if rules.flaw is not Flaw.CANCEL_SPARES_RUNS:
        for number, attempt in enumerate(world.attempts, start=1):
            if attempt.run in OPEN:
                after = after.put(number, desired=Desired.DEAD)
    return after


def bind(world: World, number: int, rules: Rules) -> World:
    run, desired = world.attempt(number).run, world.attempt(number).desired
    if run is RunState.UNKNOWN and rules.flaw is Flaw.BIND_NEEDS_LEASE:
        return world
    if run in (RunState.ABSENT, RunState.REJECTED):
        return find_surplus(world, number, rules)
    if run not in (RunState.POSTING, RunState.UNKNOWN):
        return world
    begins = world.job is JobState.LAUNCHING and desired is Desired.ALIVE
    undone = world.job is JobState.CANCELLED and rules.flaw is Flaw.BIND_UNDOES_CANCEL
    job = JobState.RUNNING if begins or undone else world.job
    return world.put(number, run=RunState.BOUND)._replace(job=job, tries=0)


def doubt(world: World, number: int) -> World:
    if world.attempt(number).run is not RunState.POSTING:
        return world
    return world.put(number, run=RunState.UNKNOWN)


def reject(world: World, number: int, *, retryable: bool) -> World:
    if world.attempt(number).run not in (RunState.POSTING, RunState.UNKNOWN):
        return world
    job = world.job
    if job is JobState.LAUNCHING:
        again = retryable and world.tries + 1 < MOST_TRIES
        job = JobState.QUEUED if again else JobState.FAILED
    return world.put(number, run=RunState.REJECTED)._replace(job=job, tries=world.tries + 1)


def conclude_absent(world: World, number: int, rules: Rules) -> World:
    job, again = world.job, rules.relaunch and not world.relaunched
    if job is JobState.LAUNCHING:
        job = JobState.QUEUED if again else JobState.FAILED
    after = world.put(number, run=RunState.ABSENT)
    return after._replace(job=job, relaunched=world.relaunched or job is JobState.QUEUED)


def find_surplus(world: World, number: int, rules: Rules) -> World:
    if rules.flaw is Flaw.SURPLUS_COUNTS:
        return world.put(number, run=RunState.BOUND)
    return world.put(number, run=RunState.BOUND, origin=Origin.SURPLUS, desired=Desired.DEAD)


def end(world: World, number: int, verdict: JobState) -> World:
    decides = world.job is JobState.RUNNING and world.attempt(number).origin is Origin.OURS
    after = world.put(number, run=RunState.ENDED)
    return after._replace(job=verdict) if decides else after


def _worker(world: World, number: int, rules: Rules) -> Steps:
    attempt, done = world.attempt(number), world.put(number, hand=Hand.GONE)
    match attempt.hand:
        case Hand.UNSENT:
            yield "sends the request", world.put(number, hand=Hand.WAITING, in_flight=True)
            yield "says it sent nothing", reject(done, number, retryable=True)
        case Hand.WAITING if attempt.created:
            yield "reads the id", bind(done, number, rules)
        case Hand.REFUSED:
            yield "reads a refusal for now", reject(done, number, retryable=True)
            yield "reads a refusal for good", reject(done, number, retryable=False)
        case _:
            pass
    if attempt.hand in (Hand.WAITING, Hand.REFUSED):
        if rules.flaw is Flaw.SENDS_AGAIN:
            yield "has no clear answer", reject(done, number, retryable=True)
        else:
            yield "has no clear answer", doubt(done, number)


def _fate(world: World, number: int, _: Rules) -> Steps:
    if world.attempt(number).hand is not Hand.GONE:
        yield "kills the worker", world.put(number, hand=Hand.GONE)


def _network(world: World, number: int, _: Rules) -> Steps:
    if world.attempt(number).in_flight:
        yield "loses the request", world.put(number, in_flight=False)


def _hub(world: World, number: int, rules: Rules) -> Steps:
    attempt = world.attempt(number)
    if attempt.in_flight:
        hand = Hand.REFUSED if attempt.hand is Hand.WAITING else attempt.hand
        arrived = world.put(number, in_flight=False)
        yield "creates a job", arrived.put(number, created=True, alive=True)
        yield "refuses the request", arrived.put(number, hand=hand)
        if rules.refusals_lie:
            lied = arrived.put(number, hand=hand, created=True, alive=True)
            yield "creates a job, and answers that it refused", lied
    if attempt.created and not attempt.listed:
        yield "lists the job", world.put(number, listed=True)


def _remote(world: World, number: int, _: Rules) -> Steps:
    if world.attempt(number).alive:
        yield "ends by itself", world.put(number, alive=False)


def _attend(world: World, number: int, rules: Rules) -> Steps:
    attempt = world.attempt(number)
    if attempt.run is RunState.POSTING:
        yield "finds the lease lapsed", doubt(world, number)
    if attempt.run is RunState.UNKNOWN:
        found = attempt.listed and rules.flaw is not Flaw.BIND_NEEDS_LEASE
        if found:
            yield "finds it by its label", bind(world, number, rules)
        # The listing it goes by may be an older one, which did not show it yet.
        if not rules.settled or (attempt.is_settled and not found):
            yield "gives it up as absent", conclude_absent(world, number, rules)
    if attempt.run is RunState.BOUND and attempt.desired is Desired.DEAD and attempt.alive:
        yield "kills it", world.put(number, alive=False)


def _observe(world: World, number: int, rules: Rules) -> Steps:
    attempt = world.attempt(number)
    if attempt.run is RunState.BOUND:
        if not attempt.alive:
            for verdict in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
                yield f"sees the end: {verdict}", end(world, number, verdict)
        elif not attempt.listed and rules.flaw is Flaw.BELIEVES_404:
            yield "takes it for deleted", end(world, number, JobState.FAILED)
    elif attempt.alive and attempt.listed:
        # It lists what is active; a job that is over costs nothing any more.
        if attempt.run in (RunState.POSTING, RunState.UNKNOWN):
            yield "sees it listed", bind(world, number, rules)
        elif attempt.run is RunState.ABSENT and rules.flaw is not Flaw.NO_LATE_WATCH:
            yield "sees it arrive late", find_surplus(world, number, rules)
        elif attempt.run is RunState.REJECTED and rules.flaw is not Flaw.BELIEVES_REFUSALS:
            yield "sees it though it was refused", find_surplus(world, number, rules)


_STEPS: Final[dict[Actor, Callable[[World, int, Rules], Steps]]] = {
    Actor.WORKER: _worker,
    Actor.FATE: _fate,
    Actor.NETWORK: _network,
    Actor.HUB: _hub,
    Actor.REMOTE: _remote,
    Actor.ATTEND: _attend,
    Actor.OBSERVE: _observe,
}
