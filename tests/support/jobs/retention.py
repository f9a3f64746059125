"""Periods of retention for tests: the same for everything."""

from datetime import timedelta

from schema.db.database import Transaction
from schema.jobs.retention.pruning import RetentionPeriods, prune_expired


def keep_for_a_month(kind: str) -> timedelta:
    """Return how long a job of a kind is kept: a month, whatever its kind."""
    return timedelta(days=30)


def uniform_periods(period: timedelta) -> RetentionPeriods:
    """Return the same period for everything."""
    return RetentionPeriods(
        jobs=period, jobs_by_kind={}, firings=period, audit=period, spending=period
    )


async def prune_older_than(tx: Transaction, period: timedelta) -> bool:
    """Delete some of what is older than a period; true if there may be more."""
    return await prune_expired(tx, periods=uniform_periods(period))
