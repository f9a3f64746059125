"""Many calls under one handle: how they are asked for, and how their results are read, by page."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from anyio.lowlevel import checkpoint

from schema.batches import queries as batch_queries
from schema.batches import store as batch_store
from schema.batches.queries import Shown
from schema.batches.tables import SETTLED, ItemState
from schema.common.errors import Conflict, Invalid
from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from schema.jobs.tables import Reason
from schema.specs.batch import (
    INLINE_BYTES,
    ITEM,
    BatchSpec,
    Given,
    Inline,
    Item,
    Items,
    OnUnknown,
    WrongItem,
)
from schema.specs.inference import InferenceSpec
from schema.specs.validation_errors import checked
from service.auth.caller import Caller
from service.views import job_summary
from service.views.base import View
from service.views.text import shorten

Only = Literal["done", "failed", "unknown"]
LONGEST_PAGE: Final = 40_000
"""Characters of results in a page; its items share them evenly."""
_WHOLE: Final = 200_000
"""Characters of a result that is asked for alone."""
_SHOWN: Final = 300
_AT_ONCE: Final = 100
"""Items that are checked before other calls have their turn."""


class ItemView(View):
    """What one item came to."""

    custom_id: str
    state: ItemState
    result: dict[str, Any] | None
    """What a single call would have answered."""
    excerpt: str | None
    """Its beginning, if it is too long for this page; limit=1 shows it whole."""
    reason: Reason | None
    message: str | None

    @classmethod
    def of(cls, shown: Shown) -> "ItemView":
        """Show an item."""
        return cls(
            custom_id=shown.custom_id,
            state=shown.state,
            result=shown.result,
            excerpt=shown.excerpt,
            reason=shown.reason,
            message=shown.message,
        )


class ItemsView(View):
    """A page of what the items of a batch came to, in the order in which they were given."""

    items: list[ItemView]
    next_cursor: int | None
    """Pass as cursor for those that follow."""

    @property
    def files(self) -> set[str]:
        """The files that results on this page name."""
        return {name for item in self.items for name in (item.result or {}).get("files", [])}

    @property
    def text(self) -> str:
        """The items as words."""
        return "\n".join(_line(item) for item in self.items)


@dataclass(frozen=True, slots=True)
class Brought:
    """The items that came with a request."""

    items: Sequence[Given]

    async def keep(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Keep them, in the transaction that makes their job."""
        await batch_store.keep(tx, job_id, caller.subject_id, self.items)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The items of an earlier batch, for one that repeats it."""

    earlier: UUID
    every: bool

    async def keep(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Keep them, in the transaction that makes their new job."""
        await batch_queries.take_over(
            tx, caller.subject_id, job_id, earlier=self.earlier, every=self.every
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of a batch is asked for."""

    start: int = 0
    limit: int = 20
    only: Only | None = None

    def expect_whole(self) -> None:
        """Refuse to look for a page of what has no items.

        Raises:
            Invalid: with what to leave out.
        """
        if self != Wanted():
            raise Invalid("cursor, limit and only are for the items of a batch; leave them out.")


@dataclass(frozen=True, slots=True)
class Many:
    """What makes a batch of a call, if anything does."""

    items: Sequence[Item] | None = None
    items_from: str | None = None
    concurrency: int = 8
    on_unknown: OnUnknown = "report"
    max_tries: int = 4


async def one_or_many(
    inputs: object, many: Many, **common: Any
) -> tuple[InferenceSpec | BatchSpec, Brought | None]:
    """Check a call, or a batch of them item by item.

    Raises:
        Invalid: with what is wrong, and of which item.
    """
    given = {"inputs": inputs, "items": many.items, "items_from": many.items_from}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        several = f"{' and '.join(named)} are given" if named else "inputs is missing"
        raise Invalid(
            f"{several}; give inputs for one call, or for a batch either items or items_from."
        )
    if inputs is not None:
        return checked(InferenceSpec, inputs=inputs, **common), None
    common |= {
        "concurrency": many.concurrency,
        "on_unknown": many.on_unknown,
        "max_tries": many.max_tries,
    }
    if many.items is None:
        return checked(BatchSpec, items_from=many.items_from, **common), None
    items = many.items
    if not items:
        raise Invalid(f"items: there is none; write at least one, such as {ITEM}.")
    origin, size = hashlib.sha256(), 0
    for item in items:
        written = json.dumps(item.given(), sort_keys=True).encode()
        origin.update(written)
        size += len(written)
    if size > INLINE_BYTES:
        raise Invalid(
            f"items: they come to {size:,} bytes, and {INLINE_BYTES:,} are taken with a request. "
            f"Put them into a file at the Hub, one JSON object a line such as {ITEM}, and pass "
            f'items_from="hf://datasets/OWNER/NAME/items.jsonl".'
        )
    inline = Inline.model_construct(count=len(items), origin=f"sha256:{origin.hexdigest()}")
    spec = checked(BatchSpec, items=inline.model_dump(), **common)
    return spec, Brought(await _expect_right(spec, items))


async def _expect_right(spec: BatchSpec, items: Sequence[Item]) -> list[Given]:
    right = Items(spec)
    try:
        for number, item in enumerate(items):
            right.take(f"items[{number}]", item)
            if number % _AT_ONCE == 0:
                await checkpoint()
    except WrongItem as error:
        raise Invalid(f"{error}.") from None
    return right.given


async def page(tx: Transaction, status: JobStatus, wanted: Wanted) -> ItemsView:
    """Read a page of what the items of a batch came to, while it runs and after."""
    states = SETTLED if wanted.only is None else (ItemState(wanted.only),)
    found = await batch_queries.page(
        tx,
        status.subject_id,
        status.id,
        states=states,
        start=wanted.start,
        limit=wanted.limit + 1,
        longest=_WHOLE if wanted.limit == 1 else LONGEST_PAGE // wanted.limit,
    )
    following = found[wanted.limit].position if len(found) > wanted.limit else None
    shown = [ItemView.of(each) for each in found[: wanted.limit]]
    return ItemsView(items=shown, next_cursor=following)


async def counted(
    tx: Transaction, status: JobStatus, kept: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Say how all items of a batch stand, beside what is kept of it; none if it knows none yet."""
    tally = await batch_queries.tally(tx, status.subject_id, status.id)
    return None if tally is None else {**(kept or {}), **tally.shown()}


def after(status: JobStatus, page: ItemsView, result: dict[str, Any] | None) -> str | None:
    """Say what to call next to read on, or for what has no result; none if that is not special."""
    handle = job_summary.handle_of(status)
    if page.next_cursor is not None:
        return f'Call job_result(job_id="{handle}", cursor={page.next_cursor}) for what follows.'
    finished = status.finished_at is not None
    if finished and result is not None and 0 < result.get("done", 0) < result["items"]:
        return f'Call retry_job(job_id="{handle}") to send those without a result again.'
    return None


async def again(
    tx: Transaction, status: JobStatus, spec: BatchSpec, *, only_failed: bool
) -> tuple[BatchSpec, TakenOver | None]:
    """Say what a batch that repeats another takes over from it: nothing of a file nobody read.

    Raises:
        Conflict: there is nothing without a result.
    """
    tally = await batch_queries.tally(tx, status.subject_id, status.id)
    if tally is None:
        return spec, None
    handle = job_summary.handle_of(status)
    count = tally.total - (tally.done if only_failed else 0)
    if count == 0:
        raise Conflict(
            f"Every item of {handle} has a result, so nothing was launched. Pass only_failed=false "
            f"to send all of them again."
        )
    origin = Inline(count=count, origin=f"{handle}, {'no result' if only_failed else 'all'}")
    repeated = spec.model_copy(update={"items": origin, "items_from": None})
    return repeated, TakenOver(status.id, every=not only_failed)


def _line(item: ItemView) -> str:
    said = item.excerpt or item.message or ""
    if item.result is not None:
        said = item.result.get("text") or json.dumps(item.result)
    return shorten(f"{item.custom_id} {item.state}: {said}", _SHOWN)
