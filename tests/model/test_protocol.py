"""What the protocol promises in every play, each promise with the rules that it needs."""

from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Final

import pytest

from tests.model import violations
from tests.model.explorer import explore
from tests.model.state import ModelRules, ProtocolFlaw

FAIL_RULES: Final = ModelRules()
RELAUNCH_RULES: Final = ModelRules(relaunch=True)
SETTLED_RULES: Final = ModelRules(relaunch=True, settled=True)
LYING_REFUSAL_RULES: Final = ModelRules(refusals_lie=True)

for_each_policy: Final = pytest.mark.parametrize(
    "rules",
    [
        FAIL_RULES,
        RELAUNCH_RULES,
        SETTLED_RULES,
        LYING_REFUSAL_RULES,
        replace(SETTLED_RULES, refusals_lie=True),
    ],
    ids=["fail", "relaunch", "settled", "lies", "settled_lies"],
)


def test_a_job_that_fails_on_doubt_is_never_created_twice() -> None:
    """However long a request is under way, a worker paused, or a listing late."""
    assert violations.trace_to_second_job(FAIL_RULES) == []


def test_a_relaunch_creates_no_second_job_once_nothing_more_can_come_of_the_first() -> None:
    """What the settle window is for: it has to outlast whatever may still create or list a job."""
    assert violations.trace_to_second_job(SETTLED_RULES) == []


def test_a_relaunch_that_comes_too_early_makes_one_duplicate_which_is_killed() -> None:
    """A settle window that was too short costs one more job, until it is seen in a listing."""
    assert violations.trace_to_second_job(RELAUNCH_RULES) != []
    assert violations.trace_to_third_job(RELAUNCH_RULES) == []
    assert violations.trace_to_unawaited_job(RELAUNCH_RULES) == []


def test_a_job_made_by_a_refused_request_is_killed() -> None:
    """A 4xx that lies lets a job be launched again; what it made is treated like a late arrival."""
    assert violations.trace_to_second_job(LYING_REFUSAL_RULES) != []
    assert violations.trace_to_unawaited_job(LYING_REFUSAL_RULES) == []


@for_each_policy
def test_nothing_is_ever_stuck(rules: ModelRules) -> None:
    """From every state a final one can be reached, in which nothing of the job is alive or open."""
    assert violations.trace_to_dead_end(rules) == []


@for_each_policy
def test_no_play_goes_on_for_ever(rules: ModelRules) -> None:
    """Every play comes to an end, so what holds at its end is what will be."""
    graph = explore(rules)
    successors = {
        state: {transition.after for transition in transitions}
        for state, transitions in graph.transitions_from.items()
    }

    TopologicalSorter(successors).prepare()


@for_each_policy
def test_a_job_that_is_over_stays_as_it_ended(rules: ModelRules) -> None:
    """Above all a cancel: no answer that comes after it brings the job back."""
    assert violations.trace_to_undone_ending(rules) == []


@for_each_policy
def test_nothing_of_a_cancelled_job_lives_on(rules: ModelRules) -> None:
    """Its runs are killed whenever they turn up: bound already, in flight, or given up before."""
    assert violations.trace_to_job_alive_after_cancel(rules) == []


@for_each_policy
def test_a_job_has_one_open_run_when_it_is_launched_and_none_when_queued(rules: ModelRules) -> None:
    """What `one_open_launch` refuses never comes up, and neither does what `v_unowned` lists."""
    assert violations.trace_to_second_open_run(rules) == []
    assert violations.trace_to_unowned_job(rules) == []


@for_each_policy
def test_what_lives_at_rest_is_the_run_its_job_waits_for(rules: ModelRules) -> None:
    """There are no orphans: whatever else lives has a row by which it is found and killed."""
    assert violations.trace_to_orphan(rules) == []
    assert violations.trace_to_unawaited_job(rules) == []


def test_sending_again_on_doubt_makes_two_jobs() -> None:
    """A request whose answer is lost may still be carried out."""
    assert violations.trace_to_second_job(replace(FAIL_RULES, flaw=ProtocolFlaw.SENDS_AGAIN)) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "worker has no clear answer (1)",
        "hub creates a job (1)",
        "worker claims (2)",
        "worker sends the request (2)",
        "hub creates a job (2)",
    ]


def test_without_a_late_watch_a_job_that_arrives_late_is_an_orphan() -> None:
    """It lives for as long as the Hub lets it, and somebody pays."""
    assert violations.trace_to_orphan(replace(FAIL_RULES, flaw=ProtocolFlaw.NO_LATE_WATCH)) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "worker has no clear answer (1)",
        "hub creates a job (1)",
        "hub lists the job (1)",
        "reconciler gives it up as absent (1)",
    ]


def test_without_a_look_for_refused_runs_a_lying_refusal_leaves_an_orphan() -> None:
    """A 4xx is believed for what happens next, and checked all the same."""
    assert violations.trace_to_orphan(
        replace(LYING_REFUSAL_RULES, flaw=ProtocolFlaw.BELIEVES_REFUSALS)
    ) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "hub creates a job, and answers that it refused (1)",
        "worker reads a refusal for good (1)",
        "hub lists the job (1)",
    ]


def test_a_cancel_without_a_kill_order_leaves_the_job_running_upstream() -> None:
    """The subject was told that it is over, and nothing ends it but itself."""
    assert violations.trace_to_job_alive_after_cancel(
        replace(FAIL_RULES, flaw=ProtocolFlaw.CANCEL_SPARES_RUNS)
    ) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "hub creates a job (1)",
        "worker reads the id (1)",
        "hub lists the job (1)",
        "subject cancels",
    ]


def test_a_bind_that_needs_the_lease_makes_two_jobs_of_one_that_was_found() -> None:
    """However long the settle window is: that a run exists is a fact, whoever learns it."""
    assert violations.trace_to_second_job(
        replace(SETTLED_RULES, flaw=ProtocolFlaw.BIND_NEEDS_LEASE)
    ) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "worker has no clear answer (1)",
        "hub creates a job (1)",
        "hub lists the job (1)",
        "reconciler gives it up as absent (1)",
        "worker claims (2)",
        "worker sends the request (2)",
        "hub creates a job (2)",
    ]


def test_a_bind_that_does_not_look_at_the_job_brings_a_cancelled_one_back() -> None:
    """The answer of the Hub comes after the cancel as often as before it."""
    assert violations.trace_to_undone_ending(
        replace(FAIL_RULES, flaw=ProtocolFlaw.BIND_UNDOES_CANCEL)
    ) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "hub creates a job (1)",
        "subject cancels",
        "worker reads the id (1)",
    ]


def test_believing_that_a_young_job_was_deleted_leaves_an_orphan() -> None:
    """The Hub may answer 404 for an id that it has just given out."""
    assert violations.trace_to_orphan(replace(FAIL_RULES, flaw=ProtocolFlaw.BELIEVES_404)) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "hub creates a job (1)",
        "worker reads the id (1)",
        "poller takes it for deleted (1)",
        "hub lists the job (1)",
    ]


def test_a_late_arrival_that_counts_gives_its_job_two_open_runs() -> None:
    """The job was queued again meanwhile: what arrives late is one too many, and dies."""
    assert violations.trace_to_second_open_run(
        replace(RELAUNCH_RULES, flaw=ProtocolFlaw.SURPLUS_COUNTS)
    ) == [
        "worker claims (1)",
        "worker sends the request (1)",
        "hub creates a job (1)",
        "reconciler finds the lease lapsed (1)",
        "reconciler gives it up as absent (1)",
        "worker reads the id (1)",
        "worker claims (2)",
    ]
