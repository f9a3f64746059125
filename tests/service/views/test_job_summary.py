"""What is said about a job, in every situation it can be in."""

import re
from datetime import timedelta

import pytest

from schema.accounts.tables import Hold
from schema.jobs.tables import FINAL_STATES, JobKind, JobState, Reason
from service.views import job_summary
from service.views.jobs import JobView
from tests.support.jobs.job_statuses import HUB_URL, NOW, make_status


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("reason", Reason)
def test_every_failure_has_a_reason_in_words_and_a_remedy(reason: Reason, kind: JobKind) -> None:
    """A person who reads only this knows what happened and what to do."""
    failed = make_status(state=JobState.FAILED, reason=reason, kind=kind, exit_code=3, attempt=1)

    assert job_summary.summarize_job(failed).startswith("Failed: ")
    assert re.search("launch|retry_job", job_summary.suggest_next_step(failed))
    assert not re.search(r"\{\w", job_summary.suggest_next_step(failed))


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("state", JobState)
def test_polling_ends_exactly_when_nothing_can_change(state: JobState, kind: JobKind) -> None:
    """A model that follows poll_after_seconds neither stops early nor goes on for ever."""
    view = JobView.from_status(
        make_status(state=state, kind=kind, reason=Reason.INTERNAL, attempt=1), HUB_URL
    )

    assert (view.poll_after_seconds is None) == (state in FINAL_STATES)
    assert view.summary.endswith(".")
    if state not in FINAL_STATES:
        assert f'wait_for_jobs(job_ids="{view.job_id}", until="terminal")' in view.next_step


@pytest.mark.parametrize(
    ("age", "wait"), [(timedelta(0), 2), (timedelta(minutes=1), 6), (timedelta(hours=5), 30)]
)
def test_young_jobs_are_worth_asking_about_sooner(age: timedelta, wait: int) -> None:
    """Seconds matter to a job that takes seconds, and to no other."""
    view = JobView.from_status(make_status(state=JobState.RUNNING, created_at=NOW - age), HUB_URL)

    assert view.poll_after_seconds == wait


def test_waiting_for_hardware_is_told_from_running() -> None:
    """One of them costs money."""
    waiting = make_status(state=JobState.RUNNING, stage="SCHEDULING", attempt=1)
    running = make_status(state=JobState.RUNNING, stage="RUNNING", attempt=1)

    assert "waits for cpu-basic hardware, at no cost so far" in job_summary.summarize_job(waiting)
    assert job_summary.summarize_job(running) == "Running on cpu-basic."


def test_a_held_job_says_what_it_waits_for() -> None:
    """It looks like any queued job, and yet nothing will happen until somebody acts."""
    held = make_status(hold=Hold.CREDENTIALS)

    assert "no longer accepts the token" in job_summary.summarize_job(held)
    assert job_summary.suggest_next_step(held).startswith("Sign in again")
    assert "paused" in job_summary.summarize_job(make_status(hold=Hold.OPERATOR))


def test_a_running_job_that_cannot_be_watched_says_how_old_its_status_is() -> None:
    """Old news that looks new is worse than none."""
    seen = NOW - timedelta(minutes=20)
    unseen = make_status(
        state=JobState.RUNNING, stage="RUNNING", attempt=1, hold=Hold.CREDENTIALS, seen_at=seen
    )

    assert "cannot be watched" in job_summary.summarize_job(unseen)
    assert JobView.from_status(unseen, HUB_URL).status_as_of == seen


def test_a_hold_is_not_shown_on_what_is_over() -> None:
    """It stands on the subject, and is no news about a finished job."""
    done = make_status(state=JobState.SUCCEEDED, hold=Hold.CREDENTIALS, attempt=1)

    assert JobView.from_status(done, HUB_URL).hold is None


def test_a_launch_that_was_turned_away_says_that_it_is_tried_again() -> None:
    """Otherwise a caller would launch another."""
    assert "tried again by itself" in job_summary.summarize_job(make_status(tries=3, attempt=3))


def test_a_long_message_is_cut() -> None:
    """The Hub may say a page; a summary is a sentence."""
    failed = make_status(state=JobState.FAILED, reason=Reason.INTERNAL, message="x" * 5000)

    assert len(job_summary.summarize_job(failed)) < 400


def test_a_bound_job_has_a_page_at_the_hub() -> None:
    """Exactly where the Hub itself would link."""
    bound = make_status(state=JobState.RUNNING, attempt=1, remote_id="6a31")

    assert JobView.from_status(bound, HUB_URL).url == "https://huggingface.co/jobs/ada/6a31"
    assert JobView.from_status(make_status(), HUB_URL).url is None


def test_a_job_that_runs_is_not_held_by_the_operator() -> None:
    """Only launches are: it is polled as ever, and nothing is said to wait."""
    queued = make_status(hold=Hold.OPERATOR)
    running = make_status(state=JobState.RUNNING, stage="RUNNING", attempt=1, hold=Hold.OPERATOR)
    free = make_status(state=JobState.RUNNING, stage="RUNNING", attempt=1)

    assert job_summary.effective_hold(queued) is Hold.OPERATOR
    assert job_summary.effective_hold(running) is None
    assert job_summary.poll_interval(running) == job_summary.poll_interval(free)
