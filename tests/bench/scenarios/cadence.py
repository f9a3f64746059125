"""A simulation of the poll loop with a million open runs: fairness, cadence, and the Hub's limit.

There is no database. A group is due as `work_queues.finish_polls` sets it, which
`tests/bench/test_cadence.py` compares with the real statement, and a launch brings its group
forward. Workers take the groups that have been due for longest, a batch at a time.

    launch ──▶ due within observe_min ──▶ leased, listed ──▶ due after a twentieth of the age of the
                                              │              newest run, within the two bounds
    end ──────────────────────────────────────┴▶ seen

Launches and ends are independent and equally frequent, so the number of open runs stays what it is.
Not simulated: answers of the Hub that ask for a pause, listings of several pages, and workers that
stop.
"""

import heapq
import math
import random
import statistics
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from schema.settings import Settings
from service.local.hub_emulator.middleware import WINDOW_SECONDS
from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from workers.loops.poll_runs import BATCH_SIZE, MAX_FOLLOWED_LOGS

FREE_QUOTA: Final = 1000
"""Requests of a free user in a window of the Hub (hub-docs, rate-limits.md)."""
SPREAD: Final = (0.9, 1.1)
"""Within which factors of its middle the delay of a poll is drawn."""
_SHARE_OF_AGE: Final = 20
_OBSERVE_MIN: timedelta = Settings.model_fields["observe_min"].default
_OBSERVE_MAX: timedelta = Settings.model_fields["observe_max"].default
_MAX_SIMULATED_SUBJECTS: Final = 2000
"""Of more, so many are simulated with their share of the workers: groups are alike."""
_REQUESTS_OF_AN_END: Final = 2
"""The run itself, and its log."""
_UTILIZATION: Final = 0.8
"""The share of their time that workers may be busy without a queue before them."""
_SUBJECTS: Final = {
    Size.TINY: (10, 100),
    Size.QUICK: (1000, 10_000, 100_000),
    Size.FULL: (1000, 10_000, 100_000),
}
_LOADS: Final = {
    Size.TINY: ((1000, timedelta(hours=1)),),
    Size.QUICK: ((1_000_000, timedelta(hours=1)), (100_000, timedelta(hours=2.4))),
    Size.FULL: (
        (1_000_000, timedelta(hours=1)),
        (1_000_000, timedelta(hours=24)),
        (100_000, timedelta(hours=2.4)),
    ),
}
"""Open runs, and how long they last; the last two are a million launches a day."""


@dataclass(frozen=True, slots=True)
class PollCost:
    """What one worker needs for polls: parameters, from the scenario `observation`."""

    answer: timedelta = timedelta(milliseconds=200)
    """How long the Hub takes for a listing."""
    work: timedelta = timedelta(milliseconds=5)
    """What a poll takes of the worker and the database, which no other poll can have meanwhile."""
    follow_log: timedelta = timedelta(seconds=1)
    """How long a worker waits for further lines of a running job's log."""

    def batch_seconds(self, groups: int, *, prints: bool) -> float:
        """Return how long a worker takes for groups that it polls at the same time."""
        wait = self.answer + (self.follow_log if prints else timedelta(0))
        return (wait + groups * self.work).total_seconds()

    def polls_per_second(self, *, prints: bool) -> float:
        """Return how many groups one worker polls if enough are due."""
        return BATCH_SIZE / self.batch_seconds(BATCH_SIZE, prints=prints)


@dataclass(frozen=True, slots=True)
class Population:
    """Who has how many open runs, and what the runs do."""

    subjects: int
    runs: int
    run_duration: timedelta
    """The mean."""
    prints: bool
    """Whether the runs print; those that wait for hardware have no log to follow."""

    def __str__(self) -> str:
        what = "print" if self.prints else "wait"
        hours = self.run_duration / timedelta(hours=1)
        return f"{self.runs:,} runs of {hours:g} h that {what}, {self.subjects:,} people"

    @property
    def requests_of_a_poll(self) -> int:
        """A listing, and the logs that are followed."""
        followed = min(MAX_FOLLOWED_LOGS, max(1, self.runs // self.subjects)) if self.prints else 0
        return 1 + followed


@dataclass(slots=True)
class Observed:
    """What the simulated workers did within one window of the Hub."""

    polls: list[int]
    """Of each subject."""
    launches: list[int]
    ends: list[int]
    delays: list[float] = field(default_factory=list[float])
    """From each end until it was seen, in seconds."""
    lateness: list[float] = field(default_factory=list[float])
    """Of each poll: how long its group had been due, in seconds."""


def next_poll_seconds(
    newest_age_seconds: float,
    *,
    min_interval: timedelta = _OBSERVE_MIN,
    max_interval: timedelta = _OBSERVE_MAX,
) -> float:
    """Return after how many seconds a group is polled again: the middle of what is drawn."""
    return max(
        min_interval.total_seconds(),
        min(max_interval.total_seconds(), newest_age_seconds / _SHARE_OF_AGE),
    )


def simulate(population: Population, cost: PollCost, *, workers: int) -> Observed:
    """Let workers poll for one window of the Hub, from the middle of a steady load.

    Args:
        workers: for all subjects of this population.
    """
    chance = random.Random(1)  # noqa: S311  # the same numbers each time
    subjects, window = population.subjects, float(WINDOW_SECONDS)
    launch_interval = population.run_duration.total_seconds() / population.runs
    newest = [-chance.expovariate(1 / (launch_interval * subjects)) for _ in range(subjects)]
    due = [chance.random() * next_poll_seconds(-launched_at) for launched_at in newest]
    queue = [(due_at, subject) for subject, due_at in enumerate(due)]
    heapq.heapify(queue)
    unseen: list[list[float]] = [[] for _ in range(subjects)]
    leased_until = [0.0] * subjects
    observed = Observed([0] * subjects, [0] * subjects, [0] * subjects)
    free = [0.0] * workers
    next_launch, next_end = (chance.expovariate(1 / launch_interval) for _ in range(2))
    observe_min = _OBSERVE_MIN.total_seconds()
    while (now := max(free[0], queue[0][0] if queue else free[0])) < window:
        if next_launch <= now:
            subject = chance.randrange(subjects)
            newest[subject] = next_launch
            observed.launches[subject] += 1
            # What a launch writes into a leased group is overwritten when the poll is finished.
            if next_launch + observe_min < due[subject] and leased_until[subject] <= next_launch:
                due[subject] = next_launch + observe_min
                heapq.heappush(queue, (due[subject], subject))
            next_launch += chance.expovariate(1 / launch_interval)
            continue
        while next_end <= now:
            unseen[chance.randrange(subjects)].append(next_end)
            next_end += chance.expovariate(1 / launch_interval)
        groups: list[int] = []
        while queue and queue[0][0] <= now and len(groups) < BATCH_SIZE:
            due_at, subject = heapq.heappop(queue)
            if due_at == due[subject]:  # else it was brought forward
                groups.append(subject)
                observed.lateness.append(now - due_at)
        if not groups:
            continue
        finished_at = now + cost.batch_seconds(len(groups), prints=population.prints)
        heapq.heapreplace(free, finished_at)
        for subject in groups:
            observed.polls[subject] += 1
            observed.ends[subject] += len(unseen[subject])
            leased_until[subject] = finished_at
            observed.delays += [finished_at - ended_at for ended_at in unseen[subject]]
            unseen[subject].clear()
            due[subject] = finished_at + chance.uniform(*SPREAD) * next_poll_seconds(
                finished_at - newest[subject]
            )
            heapq.heappush(queue, (due[subject], subject))
    return observed


def measure_population(
    population: Population, cost: PollCost, *, staffing: float = 1.0
) -> dict[str, float]:
    """Simulate a population with the workers that it needs, or with a share of them.

    Args:
        staffing: 0.5 for half of the workers that are needed.
    """
    factor = max(1, population.subjects // _MAX_SIMULATED_SUBJECTS)
    sample = replace(
        population, subjects=population.subjects // factor, runs=population.runs // factor
    )
    needed = count_workers(sample, cost)
    observed = simulate(sample, cost, workers=max(1, round(needed * staffing)))
    requests = [
        polls * population.requests_of_a_poll + launches + ends * _REQUESTS_OF_AN_END
        for polls, launches, ends in zip(
            observed.polls, observed.launches, observed.ends, strict=True
        )
    ]
    minutes = WINDOW_SECONDS / 60
    return {
        "polls_per_second": factor * sum(observed.polls) / WINDOW_SECONDS,
        "requests_per_minute": factor * sum(requests) / minutes,
        "requests_per_minute_of_one": statistics.fmean(requests) / minutes,
        "quota_percent": 100 * statistics.fmean(requests) / FREE_QUOTA,
        "most_quota_percent": 100 * max(requests) / FREE_QUOTA,
        "workers": factor * needed * staffing,
        "delay_p50_seconds": statistics.median(observed.delays),
        "delay_most_seconds": max(observed.delays),
        "late_p50_seconds": statistics.median(observed.lateness),
        "late_most_seconds": max(observed.lateness),
    }


def count_workers(population: Population, cost: PollCost) -> int:
    """Return how many workers keep up with a population, with a fifth of their time to spare."""
    unlimited = simulate(population, cost, workers=_count_enough(population, cost))
    rate = sum(unlimited.polls) / WINDOW_SECONDS
    return math.ceil(rate / cost.polls_per_second(prints=population.prints) / _UTILIZATION)


def _count_enough(population: Population, cost: PollCost) -> int:
    """Return as many workers as would do if every group were polled as often as any is."""
    rate = population.subjects / _OBSERVE_MIN.total_seconds()
    return int(rate / cost.polls_per_second(prints=population.prints) / _UTILIZATION) + 1


def measure_cadence(run: BenchRun) -> Rounds:
    """Simulate a million open runs, and the 100,000 of a million launches a day, of many people."""
    rounds: Rounds = {}
    for runs, duration in _LOADS[run.size]:
        for subjects in _SUBJECTS[run.size]:
            for prints in (False, True):
                population = Population(subjects, runs, duration, prints)
                run.report(str(population))
                rounds[str(population)] = [measure_population(population, PollCost())]
    return rounds
