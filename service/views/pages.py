"""Pages of lists that fit a reply, whatever their entries hold.

A host hands a reply to its model as a whole, or refuses it: Claude Code takes 25,000 tokens. So a
page ends earlier, with a cursor, where its next entry would not fit. An entry counts as an object
and as a line of text, because a reply has both.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, TypeVar

from schema.common.text import format_count
from service.views.base import View
from service.views.text import count_json_bytes

DEFAULT_REPLY_BYTES: Final = 40_000
"""The size of a reply to a call that does not ask for more than usual."""
MAX_REPLY_BYTES: Final = 80_000
_AROUND_ENTRIES_BYTES: Final = 2000
"""What a reply has beside its entries."""
_BETWEEN_ENTRIES_BYTES: Final = 4


class EntryView(View):
    """An entry of a list."""

    @property
    @abstractmethod
    def line(self) -> str:
        """The entry as a line of text."""


EntryT = TypeVar("EntryT", bound=EntryView)


def take_page(
    entries: Sequence[EntryT], *, limit: int, default_limit: int
) -> tuple[list[EntryT], bool]:
    """Return the entries of a page, and whether more follow.

    Args:
        entries: what was read, with one more than `limit`.
        limit: how many entries a page has at most.
        default_limit: the limit of a call that names none; a page of more entries may be larger.
    """
    reply_bytes = DEFAULT_REPLY_BYTES if limit <= default_limit else MAX_REPLY_BYTES
    page = take_fitting(entries[:limit], reply_bytes - _AROUND_ENTRIES_BYTES)
    return page, len(entries) > len(page)


def take_fitting(entries: Sequence[EntryT], max_bytes: int) -> list[EntryT]:
    """Return the first entries that take so many bytes together at most; at least one."""
    page: list[EntryT] = []
    for entry in entries:
        max_bytes -= count_json_bytes(entry.model_dump(mode="json"))
        max_bytes -= count_json_bytes(entry.line) + _BETWEEN_ENTRIES_BYTES
        if page and max_bytes < 0:
            break
        page.append(entry)
    return page


def describe_page(count: int, noun: str, next_cursor: str | None) -> str:
    """Write how many entries a page has, and how to read on."""
    following = f' There are older ones: cursor="{next_cursor}".' if next_cursor else ""
    return f"{format_count(count, noun)}, the newest first.{following}"


def describe_unseen_page(count: int, cursor: str | None, *, has_more: bool) -> str:
    """Write how many jobs a page of unseen ones has, and how to mark them as seen."""
    more = "There are more. " if has_more else ""
    return (
        f"{format_count(count, 'job')} ended unseen, the newest first. {more}The next call marks "
        f'these as seen: list_jobs(unseen=true, cursor="{cursor}").'
    )
