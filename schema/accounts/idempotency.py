"""Comparison of a repeated request with the one that used its idempotency key first."""

from collections.abc import Mapping
from typing import Any

from schema.common.errors import IdempotencyConflict


def check_same_request(
    key: str,
    handle: str,
    *,
    earlier: Mapping[str, Any],
    repeated: Mapping[str, Any],
    has_other_secrets: bool = False,
) -> None:
    """Compare two requests by their fields; a field that is absent equals one that is None.

    Args:
        key: The idempotency key of both.
        handle: What the earlier request made.
        earlier: The fields of the request that used the key first.
        repeated: The fields of the request that uses it now.
        has_other_secrets: Whether secrets of the same names have other values.

    Raises:
        IdempotencyConflict: they differ, with the names of the fields that do.
    """
    differing = {
        name for name in earlier.keys() | repeated.keys() if earlier.get(name) != repeated.get(name)
    }
    if has_other_secrets:
        differing.add("secrets")
    if differing:
        raise IdempotencyConflict(key, handle, sorted(differing))
