"""A batch outlives its workers; `python3 -m tests.crash.batch` plays 2,000 items and ten kills."""

from pathlib import Path
from typing import Final

from tests.crash.batch import CONCURRENCY, run_batches

ITEMS: Final = 400
"""So many that a quick machine has not sent them all before the last kill."""


async def test_every_item_has_one_outcome_however_often_the_worker_is_killed(
    tmp_path: Path,
) -> None:
    """What is done is never sent again; what was under way is unknown, or repeated if so asked."""
    accounts = await run_batches(tmp_path, (ITEMS, 3, "report"), (ITEMS, 2, "repeat"))

    assert {str(each): each.violations for each in accounts if each.violations} == {}
    assert [account.kill_count for account in accounts] == [3, 2]
    reported, repeated = accounts
    assert reported.states["done"] >= ITEMS - 3 * CONCURRENCY
    assert repeated.states["done"] == ITEMS
