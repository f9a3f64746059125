"""Handles of uploads (`upload_…`), which a request may write where a URL of a file goes."""

from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue

from schema.common.errors import Invalid
from schema.common.ids import HandleKind, parse_handle

_PREFIX: Final = f"{HandleKind.UPLOAD}_"


def parse_upload_handle(text: str) -> UUID | None:
    """Return the upload that a text stands for; none if it is something else.

    Raises:
        ValueError: it begins as a handle of an upload, and is none.
    """
    if not text.startswith(_PREFIX):
        return None
    try:
        return parse_handle(HandleKind.UPLOAD, text)
    except Invalid as error:
        raise ValueError(str(error).rstrip(".")) from None


def find_upload_ids(value: Any) -> frozenset[UUID]:
    """Find the uploads that stand as a `url` anywhere in a request that has been checked."""
    upload_ids: set[UUID] = set()
    pending: list[JsonValue] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            url = part.get("url")
            if isinstance(url, str) and (upload_id := _parse_or_none(url)) is not None:
                upload_ids.add(upload_id)
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return frozenset(upload_ids)


def _parse_or_none(text: str) -> UUID | None:
    try:
        return parse_upload_handle(text)
    except ValueError:
        return None
