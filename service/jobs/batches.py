"""Batches, many calls under one handle: the check of a request, and pages of results."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from uuid import UUID

from anyio.lowlevel import checkpoint

from schema.batches import queries as batch_queries
from schema.batches import store as batch_store
from schema.batches.queries import ItemStatus
from schema.batches.tables import FINAL_ITEM_STATES, ItemState
from schema.common.errors import Conflict, Invalid
from schema.common.text import format_count
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
from service.views.answers import describe_answer
from service.views.base import Detail, View
from service.views.text import count_json_bytes, fit_text, take_fitting_start

ItemStateFilter = Literal["done", "failed", "unknown"]
DEFAULT_PAGE_LIMIT: Final = 20
_PAGE_BYTES: Final = 12_000
"""Bytes of answers on a page, once as words and once as an object; its items share them evenly."""
_MAX_PAGE_BYTES: Final = 30_000
"""Bytes of a page with all that is around the answers; what does not fit is on the next one."""
_MAX_MESSAGE_BYTES: Final = 2000
"""Of a message in the object; the words have more of it."""
_MAX_ANSWER_CHARS: Final = 2**31 - 1
_ORDINARY_ENDS: Final = (None, "stop", "eos_token")
"""A finish_reason that goes without saying."""
_ITEMS_PER_CHECKPOINT: Final = 100
"""Items that are checked before other calls have their turn."""


class ItemView(View):
    """The outcome of one item."""

    position: Detail[int]
    """The cursor of this item."""
    custom_id: str
    state: ItemState
    result: dict[str, Any] | None
    """What a single call would have answered."""
    excerpt: Detail[str | None]
    """A part of a result that is too long for this page; limit=1 and offset show all of it."""
    reason: Detail[Reason | None]
    message: Detail[str | None]


class ItemsView(View):
    """A page of the results of a batch, in the order of its items."""

    items: list[ItemView]
    next_cursor: int | None
    """Pass as cursor for those that follow."""

    @property
    def named_files(self) -> set[str]:
        """The files that results on this page name."""
        return {name for item in self.items for name in (item.result or {}).get("files", [])}


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of the results of a batch: as an object, and as words."""

    view: ItemsView
    text: str
    next_call: str | None
    """The arguments of the call that reads on; none after the last page."""


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
class ResultQuery:
    """Which part of a result to read."""

    cursor: int = 0
    """The first item of a batch, or the first file of another job."""
    limit: int = DEFAULT_PAGE_LIMIT
    only: ItemStateFilter | None = None
    offset: int = 0
    """The first character of an answer that is too long for one reply."""

    def expect_no_items(self) -> None:
        """Refuse what is for the items of a batch, of a job that has none.

        Raises:
            Invalid: with what to leave out.
        """
        if self.only is not None:
            raise Invalid("only and its values are for the items of a batch; leave it out.")

    def expect_one_item(self) -> None:
        """Refuse an offset into several answers.

        Raises:
            Invalid: with what to give.
        """
        if self.offset and self.limit != 1:
            raise Invalid(
                "offset reads on in one answer: give limit=1 with it, and the item as cursor."
            )

    def format_call(self) -> str:
        """Write this query as arguments of job_result."""
        default = ResultQuery()
        fields = {"cursor": self.cursor, "limit": self.limit, "offset": self.offset}
        arguments = [
            f"{name}={value}" for name, value in fields.items() if value != getattr(default, name)
        ]
        arguments += [f'only="{self.only}"'] if self.only is not None else []
        return ", ".join(arguments)


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
            f"items: they come to {format_count(size, 'byte')}, and {MAX_INLINE_BYTES:,} are taken "
            "with a request. "
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


async def read_item_page(tx: Transaction, status: JobStatus, query: ResultQuery) -> ItemPage:
    """Read a page of the results of a batch, while it runs and after.

    Raises:
        Invalid: the query asks for a part of several answers.
    """
    query.expect_one_item()
    max_answer_bytes = _PAGE_BYTES // query.limit
    items = await batch_queries.list_items(
        tx,
        status.subject_id,
        status.id,
        states=FINAL_ITEM_STATES if query.only is None else (ItemState(query.only),),
        start=query.cursor,
        limit=query.limit + 1,
        max_result_chars=_MAX_ANSWER_CHARS if query.limit == 1 else max_answer_bytes,
    )
    shown: list[_ShownItem] = []
    room_bytes = _MAX_PAGE_BYTES
    for item in items[: query.limit]:
        entry = _show_item(item, query, max_answer_bytes)
        room_bytes -= count_json_bytes([entry.view.model_dump(mode="json"), entry.text])
        if shown and room_bytes < 0:
            break
        shown.append(entry)
    next_cursor = items[len(shown)].position if len(items) > len(shown) else None
    next_call = (
        None if next_cursor is None else replace(query, cursor=next_cursor, offset=0).format_call()
    )
    if shown and (next_offset := shown[0].next_offset) is not None:
        next_call = replace(query, cursor=shown[0].view.position, offset=next_offset).format_call()
    return ItemPage(
        ItemsView(items=[entry.view for entry in shown], next_cursor=next_cursor),
        "\n".join(entry.text for entry in shown),
        next_call,
    )


@dataclass(frozen=True, slots=True)
class _ShownItem:
    view: ItemView
    text: str
    next_offset: int | None


def _show_item(item: ItemStatus, query: ResultQuery, max_bytes: int) -> _ShownItem:
    answer = item.excerpt
    if item.result is not None:
        answer = _describe_item_answer(item.result, with_facts=query.limit == 1)
    # A failed item may have both: why, and what came back.
    message = item.message
    if message is not None and query.limit > 1:  # of one item, the message is read on
        message = fit_text(message, max_bytes // 2 if answer else max_bytes, keeps_end=True)
    text = "\n".join(filter(None, [message, answer]))
    part = take_fitting_start(text[query.offset :], max_bytes)
    ends_early = item.excerpt is not None or item.is_message_cut or message != item.message
    is_cut = ends_early or query.offset + len(part) < len(text)
    fits = item.result is not None and count_json_bytes(item.result) <= max_bytes
    view = ItemView(
        position=item.position,
        custom_id=item.custom_id,
        state=item.state,
        result=item.result if fits else None,
        excerpt=None if fits or item.state is not ItemState.DONE else part,
        reason=item.reason,
        message=item.message
        and fit_text(item.message, min(max_bytes, _MAX_MESSAGE_BYTES), keeps_end=True),
    )
    reason = f" ({item.reason})" if item.reason else ""
    hint = f" … [cut: cursor={item.position}, limit=1 shows all]" if is_cut else ""
    return _ShownItem(
        view,
        f"[{item.position}] {item.custom_id} {item.state}{reason}: "
        f"{part}{'' if query.limit == 1 else hint}",
        query.offset + len(part) if is_cut and query.limit == 1 else None,
    )


def _describe_item_answer(result: dict[str, Any], *, with_facts: bool) -> str:
    """Write an answer as words; of its facts only how it ended, unless they are all there is."""
    answer = describe_answer(result)
    if with_facts or not answer.body:
        return "\n".join(filter(None, [answer.body, answer.facts]))
    end = result.get("finish_reason")
    return answer.body if end in _ORDINARY_ENDS else f"{answer.body} [finish_reason: {end}]"


async def add_item_counts(
    tx: Transaction, status: JobStatus, stored_result: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Add to a stored result how many items are in which state; None if no item is known yet."""
    counts = await batch_queries.count_subject_items(tx, status.subject_id, status.id)
    return None if counts is None else {**(stored_result or {}), **counts.to_result()}


def describe_next_call(
    status: JobStatus, page: ItemPage, result: dict[str, Any] | None
) -> str | None:
    """Name the call that reads on, or that repeats items without a result; None: neither is due."""
    handle = job_summary.job_handle(status)
    if page.next_call is not None:
        return (
            f'Call job_result(job_id="{handle}", {page.next_call}) for what follows, or with '
            'download="items" for a file of all.'
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
