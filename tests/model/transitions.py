"""The launch and the cancel of one job, as a game against everything that can go wrong.

Each transition of ours has the name of its function in `schema`. Here it stands without SQL, so
that `tests.model.explorer` can make every transition in every order. The actors:

    subject   cancels                      hub         creates or refuses, and lists late
    worker    claims, sends once, settles  reconciler  doubts, finds by label, gives up, kills
    crash     kills a worker               poller      sees ends, binds listed jobs, records surplus
    network   loses a request              remote      a job upstream ends by itself

A paused worker makes no transition for a while. A worker that is told to stop makes one that it has
anyway: it says that it sent nothing, or that it has no clear answer. The assumptions:

-   Of clocks: nothing. A lease may lapse at any moment, also under a worker that is only slow, and
    an unknown run may be given up at any moment. Only `ModelRules.settled` assumes that it is given
    up when nothing of it is in flight, unsent in a paused worker, or created and not listed.
-   Of the network: a request takes as long as it likes, or is lost, and so is its answer. Nothing
    repeats a request on its way; an intermediary that did could make two jobs of one request.
-   Of the Hub: a 4xx means that nothing was created, unless `ModelRules.refusals_lie`. What was
    created is listed some day, with its label, while it is still being looked for: the late watch
    has no end here. A job is known by its id from the moment that the id was answered, or a 404 for
    it is not believed meanwhile. A job that is killed often enough stops for good.
-   Of Postgres: what is committed stays, and each transition is one atomic step that sees all
    transitions before it.
-   Of people: a subject whose token is refused lends another one before the late watch is over.
-   Of size: what holds for `MAX_TRIES` launches that created nothing holds for more of them.
"""

from collections.abc import Callable, Generator
from enum import StrEnum
from typing import Final, NamedTuple

from schema.jobs.run_tables import DesiredState, RunOrigin, RunState
from schema.jobs.tables import FINAL_STATES, JobState
from tests.model.state import (
    OPEN_RUN_STATES,
    Attempt,
    ModelRules,
    ModelState,
    ProtocolFlaw,
    WorkerPhase,
)

MAX_TRIES: Final = 2
"""Launches that created nothing before the job fails; the product has a few more."""


class Actor(StrEnum):
    """Who makes a transition."""

    SUBJECT = "subject"
    WORKER = "worker"
    CRASH = "crash"
    NETWORK = "network"
    HUB = "hub"
    REMOTE_JOB = "remote"
    RECONCILER = "reconciler"
    POLLER = "poller"


class Transition(NamedTuple):
    """A transition, and the state after it."""

    actor: Actor
    action: str
    number: int
    after: ModelState

    def __str__(self) -> str:
        whole = self.actor is Actor.SUBJECT
        return (
            f"{self.actor} {self.action}"
            if whole
            else f"{self.actor} {self.action} ({self.number})"
        )


Transitions = Generator[tuple[str, ModelState]]


def next_transitions(state: ModelState, rules: ModelRules) -> Generator[Transition]:
    """Yield every transition that is possible next."""
    for number in range(1, len(state.attempts) + 1):
        for actor, steps in _TRANSITIONS.items():
            for action, after in steps(state, number, rules):
                yield Transition(actor, action, number, after)
    newest = len(state.attempts)
    if state.job is JobState.QUEUED:
        yield Transition(Actor.WORKER, "claims", newest + 1, claim(state))
    if state.job not in FINAL_STATES:
        yield Transition(Actor.SUBJECT, "cancels", newest, cancel(state, rules))


def claim(state: ModelState) -> ModelState:
    return state._replace(job=JobState.LAUNCHING, attempts=(*state.attempts, Attempt()))


def cancel(state: ModelState, rules: ModelRules) -> ModelState:
    after = state._replace(job=JobState.CANCELLED)
    if rules.flaw is not ProtocolFlaw.CANCEL_SPARES_RUNS:
        for number, attempt in enumerate(state.attempts, start=1):
            if attempt.run in OPEN_RUN_STATES:
                after = after.with_attempt(number, desired=DesiredState.DEAD)
    return after


def record_remote_id(state: ModelState, number: int, rules: ModelRules) -> ModelState:
    run, desired = state.attempt(number).run, state.attempt(number).desired
    if run is RunState.UNKNOWN and rules.flaw is ProtocolFlaw.BIND_NEEDS_LEASE:
        return state
    if run in (RunState.ABSENT, RunState.REJECTED):
        return record_surplus_run(state, number, rules)
    if run not in (RunState.POSTING, RunState.UNKNOWN):
        return state
    begins = state.job is JobState.LAUNCHING and desired is DesiredState.ALIVE
    undone = state.job is JobState.CANCELLED and rules.flaw is ProtocolFlaw.BIND_UNDOES_CANCEL
    job = JobState.RUNNING if begins or undone else state.job
    return state.with_attempt(number, run=RunState.BOUND)._replace(job=job, tries=0)


def mark_unconfirmed(state: ModelState, number: int) -> ModelState:
    if state.attempt(number).run is not RunState.POSTING:
        return state
    return state.with_attempt(number, run=RunState.UNKNOWN)


def mark_not_created(state: ModelState, number: int, *, retryable: bool) -> ModelState:
    if state.attempt(number).run not in (RunState.POSTING, RunState.UNKNOWN):
        return state
    job = state.job
    if job is JobState.LAUNCHING:
        again = retryable and state.tries + 1 < MAX_TRIES
        job = JobState.QUEUED if again else JobState.FAILED
    return state.with_attempt(number, run=RunState.REJECTED)._replace(
        job=job, tries=state.tries + 1
    )


def mark_absent(state: ModelState, number: int, rules: ModelRules) -> ModelState:
    job, again = state.job, rules.relaunch and not state.relaunched
    if job is JobState.LAUNCHING:
        job = JobState.QUEUED if again else JobState.FAILED
    after = state.with_attempt(number, run=RunState.ABSENT)
    return after._replace(job=job, relaunched=state.relaunched or job is JobState.QUEUED)


def record_surplus_run(state: ModelState, number: int, rules: ModelRules) -> ModelState:
    if rules.flaw is ProtocolFlaw.SURPLUS_COUNTS:
        return state.with_attempt(number, run=RunState.BOUND)
    return state.with_attempt(
        number, run=RunState.BOUND, origin=RunOrigin.SURPLUS, desired=DesiredState.DEAD
    )


def end_run(state: ModelState, number: int, final_state: JobState) -> ModelState:
    decides = state.job is JobState.RUNNING and state.attempt(number).origin is RunOrigin.OURS
    after = state.with_attempt(number, run=RunState.ENDED)
    return after._replace(job=final_state) if decides else after


def _worker_transitions(state: ModelState, number: int, rules: ModelRules) -> Transitions:
    attempt, done = state.attempt(number), state.with_attempt(number, hand=WorkerPhase.GONE)
    match attempt.hand:
        case WorkerPhase.UNSENT:
            yield (
                "sends the request",
                state.with_attempt(number, hand=WorkerPhase.WAITING, in_flight=True),
            )
            yield "says it sent nothing", mark_not_created(done, number, retryable=True)
        case WorkerPhase.WAITING if attempt.created:
            yield "reads the id", record_remote_id(done, number, rules)
        case WorkerPhase.REFUSED:
            yield "reads a refusal for now", mark_not_created(done, number, retryable=True)
            yield "reads a refusal for good", mark_not_created(done, number, retryable=False)
        case _:
            pass
    if attempt.hand in (WorkerPhase.WAITING, WorkerPhase.REFUSED):
        if rules.flaw is ProtocolFlaw.SENDS_AGAIN:
            yield "has no clear answer", mark_not_created(done, number, retryable=True)
        else:
            yield "has no clear answer", mark_unconfirmed(done, number)


def _crash_transitions(state: ModelState, number: int, _: ModelRules) -> Transitions:
    if state.attempt(number).hand is not WorkerPhase.GONE:
        yield "kills the worker", state.with_attempt(number, hand=WorkerPhase.GONE)


def _network_transitions(state: ModelState, number: int, _: ModelRules) -> Transitions:
    if state.attempt(number).in_flight:
        yield "loses the request", state.with_attempt(number, in_flight=False)


def _hub_transitions(state: ModelState, number: int, rules: ModelRules) -> Transitions:
    attempt = state.attempt(number)
    if attempt.in_flight:
        hand = WorkerPhase.REFUSED if attempt.hand is WorkerPhase.WAITING else attempt.hand
        arrived = state.with_attempt(number, in_flight=False)
        yield "creates a job", arrived.with_attempt(number, created=True, alive=True)
        yield "refuses the request", arrived.with_attempt(number, hand=hand)
        if rules.refusals_lie:
            lied = arrived.with_attempt(number, hand=hand, created=True, alive=True)
            yield "creates a job, and answers that it refused", lied
    if attempt.created and not attempt.listed:
        yield "lists the job", state.with_attempt(number, listed=True)


def _remote_job_transitions(state: ModelState, number: int, _: ModelRules) -> Transitions:
    if state.attempt(number).alive:
        yield "ends by itself", state.with_attempt(number, alive=False)


def _reconciler_transitions(state: ModelState, number: int, rules: ModelRules) -> Transitions:
    attempt = state.attempt(number)
    if attempt.run is RunState.POSTING:
        yield "finds the lease lapsed", mark_unconfirmed(state, number)
    if attempt.run is RunState.UNKNOWN:
        is_found = attempt.listed and rules.flaw is not ProtocolFlaw.BIND_NEEDS_LEASE
        if is_found:
            yield "finds it by its label", record_remote_id(state, number, rules)
        # The listing it goes by may be an older one, which did not show it yet.
        if not rules.settled or (attempt.is_settled and not is_found):
            yield "gives it up as absent", mark_absent(state, number, rules)
    if attempt.run is RunState.BOUND and attempt.desired is DesiredState.DEAD and attempt.alive:
        yield "kills it", state.with_attempt(number, alive=False)


def _poller_transitions(state: ModelState, number: int, rules: ModelRules) -> Transitions:
    attempt = state.attempt(number)
    if attempt.run is RunState.BOUND:
        if not attempt.alive:
            for final_state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
                yield f"sees the end: {final_state}", end_run(state, number, final_state)
        elif not attempt.listed and rules.flaw is ProtocolFlaw.BELIEVES_404:
            yield "takes it for deleted", end_run(state, number, JobState.FAILED)
    elif attempt.alive and attempt.listed:
        # It lists what is active; a job that is over costs nothing any more.
        if attempt.run in (RunState.POSTING, RunState.UNKNOWN):
            yield "sees it listed", record_remote_id(state, number, rules)
        elif attempt.run is RunState.ABSENT and rules.flaw is not ProtocolFlaw.NO_LATE_WATCH:
            yield "sees it arrive late", record_surplus_run(state, number, rules)
        elif attempt.run is RunState.REJECTED and rules.flaw is not ProtocolFlaw.BELIEVES_REFUSALS:
            yield "sees it though it was refused", record_surplus_run(state, number, rules)


_TRANSITIONS: Final[dict[Actor, Callable[[ModelState, int, ModelRules], Transitions]]] = {
    Actor.WORKER: _worker_transitions,
    Actor.CRASH: _crash_transitions,
    Actor.NETWORK: _network_transitions,
    Actor.HUB: _hub_transitions,
    Actor.REMOTE_JOB: _remote_job_transitions,
    Actor.RECONCILER: _reconciler_transitions,
    Actor.POLLER: _poller_transitions,
}
