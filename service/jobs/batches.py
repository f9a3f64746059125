"""Batches, many calls under one handle: the check of a request, and pages of results."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from anyio.lowlevel import checkpoint

from schema.batches import queries as batch_queries
from schema.batches import store as batch_store
from schema.batches.queries import ItemStatus
from schema.batches.tables import FINAL_ITEM_STATES, ItemState
from schema.common.errors import Conflict, Invalid
from schema.common.text import shorten
from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from schema.jobs.tables import Reason
from schema.specs.batch import (
    ITEM_EXAMPLE,
    MAX_INLINE_BYTES,
    BatchSpec,
    InlineItems,
    InvalidItem,
    Item,
    ItemCollector,
    ItemRequest,
)
from schema.specs.inference import InferenceSpec
from schema.specs.validation_errors import validate_spec
from service.auth.caller import Caller
from service.views import job_summary
from service.views.base import View

ItemStateFilter = Literal["done", "failed", "unknown"]
MAX_PAGE_CHARS: Final = 40_000
"""Characters of results in a page; its items share them evenly."""
_MAX_SINGLE_RESULT_CHARS: Final = 200_000
"""Characters of the result on a page of one item."""
_MAX_LINE_CHARS: Final = 300
_ITEMS_PER_CHECKPOINT: Final = 100
"""Items that are checked before other calls have their turn."""


class ItemView(View):
    """The outcome of one item."""

    custom_id: str
    state: ItemState
    result: dict[str, Any] | None
    """What a single call would have answered."""
    excerpt: str | None
    """The beginning of a result that is too long for this page; limit=1 shows it whole."""
    reason: Reason | None
    message: str | None

    @classmethod
    def from_item(cls, item: ItemStatus) -> "ItemView":
        """Show an item."""
        return cls(
            custom_id=item.custom_id,
            state=item.state,
            result=item.result,
            excerpt=item.excerpt,
            reason=item.reason,
            message=item.message,
        )


class ItemsView(View):
    """A page of the results of a batch, in the order of its items."""

    items: list[ItemView]
    next_cursor: int | None
    """Pass as cursor for those that follow."""

    @property
    def named_files(self) -> set[str]:
        """The files that results on this page name."""
        return {name for item in self.items for name in (item.result or {}).get("files", [])}

    @property
    def as_text(self) -> str:
        """The items as words."""
        return "\n".join(_item_line(item) for item in self.items)


@dataclass(frozen=True, slots=True)
class NewItems:
    """The items that came with a request."""

    items: Sequence[ItemRequest]

    async def store(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Store them, in the transaction that makes their job."""
        await batch_store.add_items(tx, job_id, caller.subject_id, self.items)


@dataclass(frozen=True, slots=True)
class CopiedItems:
    """The items of an earlier batch, for one that repeats it."""

    source_job_id: UUID
    include_done: bool

    async def store(self, tx: Transaction, caller: Caller, job_id: UUID) -> None:
        """Copy them, in the transaction that makes their new job."""
        await batch_queries.copy_items(
            tx,
            caller.subject_id,
            job_id,
            source_job_id=self.source_job_id,
            include_done=self.include_done,
        )


@dataclass(frozen=True, slots=True)
class ItemPageQuery:
    """Which page of a batch to read."""

    start: int = 0
    limit: int = 20
    only: ItemStateFilter | None = None

    def expect_unpaged(self) -> None:
        """Refuse a page of a job that has no items.

        Raises:
            Invalid: with what to leave out.
        """
        if self != ItemPageQuery():
            raise Invalid("cursor, limit and only are for the items of a batch; leave them out.")


async def check_inference_spec(
    inputs: object,
    *,
    items: Sequence[Item] | None,
    items_from: str | None,
    call_fields: Mapping[str, Any],
    batch_fields: Mapping[str, Any],
) -> tuple[InferenceSpec | BatchSpec, NewItems | None]:
    """Check a call, or a batch of calls item by item.

    Args:
        inputs: what a single call asks.
        items: the items of a batch, one call each.
        items_from: a file at the Hub with the items.
        call_fields: the fields of an `InferenceSpec`.
        batch_fields: the fields of a `BatchSpec`; its items come from `items`.

    Raises:
        Invalid: with what is wrong, and of which item.
    """
    sources = {"inputs": inputs, "items": items, "items_from": items_from}
    names = [name for name, value in sources.items() if value is not None]
    if len(names) != 1:
        problem = f"{' and '.join(names)} are given" if names else "inputs is missing"
        raise Invalid(
            f"{problem}; give inputs for one call, or for a batch either items or items_from."
        )
    if inputs is not None:
        return validate_spec(InferenceSpec, **call_fields), None
    if items is None:
        return validate_spec(BatchSpec, **batch_fields), None
    inline = _summarize_items(items)
    spec = validate_spec(BatchSpec, **{**batch_fields, "items": inline.model_dump()})
    return spec, NewItems(await _check_items(spec, items))


def _summarize_items(items: Sequence[Item]) -> InlineItems:
    """Count items, and digest them, so that the same request is seen to be the same."""
    if not items:
        raise Invalid(f"items: there is none; write at least one, such as {ITEM_EXAMPLE}.")
    digest, size = hashlib.sha256(), 0
    for item in items:
        written = json.dumps(item.to_request(), sort_keys=True).encode()
        digest.update(written)
        size += len(written)
    if size > MAX_INLINE_BYTES:
        raise Invalid(
            f"items: they come to {size:,} bytes, and {MAX_INLINE_BYTES:,} are taken with a "
            "request. "
            f"Put them into a file at the Hub, one JSON object a line such as {ITEM_EXAMPLE}, "
            "and pass "
            f'items_from="hf://datasets/OWNER/NAME/items.jsonl".'
        )
    return InlineItems.model_construct(count=len(items), origin=f"sha256:{digest.hexdigest()}")


async def _check_items(spec: BatchSpec, items: Sequence[Item]) -> list[ItemRequest]:
    collector = ItemCollector(spec)
    try:
        for number, item in enumerate(items):
            collector.add(f"items[{number}]", item)
            if number % _ITEMS_PER_CHECKPOINT == 0:
                await checkpoint()
    except InvalidItem as error:
        raise Invalid(f"{error}.") from None
    return collector.requests


async def read_item_page(tx: Transaction, status: JobStatus, query: ItemPageQuery) -> ItemsView:
    """Read a page of the results of a batch, while it runs and after."""
    states = FINAL_ITEM_STATES if query.only is None else (ItemState(query.only),)
    items = await batch_queries.list_items(
        tx,
        status.subject_id,
        status.id,
        states=states,
        start=query.start,
        limit=query.limit + 1,
        max_result_chars=_MAX_SINGLE_RESULT_CHARS
        if query.limit == 1
        else MAX_PAGE_CHARS // query.limit,
    )
    next_cursor = items[query.limit].position if len(items) > query.limit else None
    page = [ItemView.from_item(item) for item in items[: query.limit]]
    return ItemsView(items=page, next_cursor=next_cursor)


async def add_item_counts(
    tx: Transaction, status: JobStatus, stored_result: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Add to a stored result how many items are in which state; None if no item is known yet."""
    counts = await batch_queries.count_subject_items(tx, status.subject_id, status.id)
    return None if counts is None else {**(stored_result or {}), **counts.to_result()}


def describe_next_call(
    status: JobStatus, items_page: ItemsView, result: dict[str, Any] | None
) -> str | None:
    """Name the call that reads on, or that repeats items without a result; None: neither is due."""
    handle = job_summary.job_handle(status)
    if items_page.next_cursor is not None:
        return (
            f'Call job_result(job_id="{handle}", cursor={items_page.next_cursor}) for what follows.'
        )
    finished = status.finished_at is not None
    if finished and result is not None and 0 < result.get("done", 0) < result["items"]:
        return f'Call retry_job(job_id="{handle}") to send those without a result again.'
    return None


async def copy_batch(
    tx: Transaction, status: JobStatus, spec: BatchSpec, *, only_failed: bool
) -> tuple[BatchSpec, CopiedItems | None]:
    """Return the request of a batch that repeats another, and the items that it copies.

    A batch whose file nobody has read yet has no items to copy: the new one reads the file.

    Raises:
        Conflict: every item has a result already.
    """
    counts = await batch_queries.count_subject_items(tx, status.subject_id, status.id)
    if counts is None:
        return spec, None
    handle = job_summary.job_handle(status)
    count = counts.total - (counts.done if only_failed else 0)
    if count == 0:
        raise Conflict(
            f"Every item of {handle} has a result, so nothing was launched. Pass only_failed=false "
            f"to send all of them again."
        )
    origin = InlineItems(count=count, origin=f"{handle}, {'no result' if only_failed else 'all'}")
    repeated = spec.model_copy(update={"items": origin, "items_from": None})
    return repeated, CopiedItems(status.id, include_done=not only_failed)


def _item_line(item: ItemView) -> str:
    text = item.excerpt or item.message or ""
    if item.result is not None:
        text = item.result.get("text") or json.dumps(item.result)
    return shorten(f"{item.custom_id} {item.state}: {text}", _MAX_LINE_CHARS, keeps_end=True)
