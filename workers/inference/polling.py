"""Pending calls: providers that respond with a URL to poll instead of an output.

The polling is ours and not that of the Hub's own client, which waits in a thread without a deadline
and has a loop that does not end for a failed call.

    fal-ai      a queue: status and result at two URLs
    together    videos: status and result at one URL
    wavespeed   all tasks: status and result at one URL
    zai-org     images: status and result at one URL
    replicate   waits up to a minute itself; a later result cannot be fetched
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from schema.hub.client import HubError
from workers.inference.router import parse_error_message

_ID_PATTERN: Final = re.compile(r"[\w-]{1,200}", re.ASCII)
_PATH_PATTERN: Final = re.compile(r"(/[\w.~-]{1,200}){1,20}", re.ASCII)


class ProviderCallFailed(Exception):
    """The provider says that the call failed; the text is its message."""


class NotPollable(HubError):
    """The call continues at the provider, and its status cannot be requested."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that continues at a provider."""

    status_path: str
    """The path of its status below the router's URL."""
    result_path: str | None
    """The path of its result once it is done; None if the status contains the result."""
    parse_status: Callable[[Any], str | None]
    """Returns None for a finished call, otherwise a few words; raises `ProviderCallFailed`."""


def parse_pending_call(provider: str, path: str, answer: Any) -> PendingCall | None:
    """Return the pending call that a response describes; None if it is the output itself.

    Raises:
        ProviderCallFailed: the call has failed already.
        NotPollable: the call continues, and its result cannot be fetched.
        LookupError, TypeError, AttributeError, ValueError: the provider's format is another.
    """
    parse = _PARSERS.get(provider)
    return None if parse is None else parse(path, answer)


def _parse_fal(path: str, answer: Any) -> PendingCall | None:
    if "_subdomain=queue" not in path:
        return None
    # For some models this path names the model differently than the request does.
    result_path = f"/fal-ai{_expect_url_path(answer['response_url'])}"
    query = urlsplit(path).query
    return PendingCall(f"{result_path}/status?{query}", f"{result_path}?{query}", _parse_fal_status)


def _parse_fal_status(state: Any) -> str | None:
    if state.get("error"):
        raise ProviderCallFailed(_error_message(state["error"]))
    match state.get("status"):
        case "COMPLETED":
            return None
        case "IN_QUEUE":
            position = state.get("queue_position")
            return f"in a queue, {position} ahead" if isinstance(position, int) else "in a queue"
        case "IN_PROGRESS":
            return "being made"
        case status:
            raise ProviderCallFailed(_error_message(status))


def _parse_together(path: str, answer: Any) -> PendingCall | None:
    if not path.endswith("/videos"):
        return None
    return PendingCall(f"{path}/{_expect_id(answer['id'])}", None, _parse_together_status)


def _parse_together_status(state: Any) -> str | None:
    match state.get("status"):
        case "completed":
            return None
        case "queued" | "in_progress" | None as status:
            return "being made" if status == "in_progress" else "in a queue"
        case status:
            raise ProviderCallFailed(_error_message(state.get("error") or status))


def _parse_wavespeed(_: str, answer: Any) -> PendingCall | None:
    path = _expect_url_path(answer["data"]["urls"]["get"])
    return PendingCall(f"/wavespeed{path}", None, _parse_wavespeed_status)


def _parse_wavespeed_status(state: Any) -> str | None:
    match state["data"]:
        case {"status": "completed"}:
            return None
        case {"status": "created" | "processing"}:
            return "being made"
        case data:
            raise ProviderCallFailed(_error_message(data.get("error") or data.get("status")))


def _parse_zai(_: str, answer: Any) -> PendingCall | None:
    if answer.get("task_status") not in {"PROCESSING", "FAIL"}:
        return None
    _parse_zai_status(answer)
    return PendingCall(
        f"/zai-org/api/paas/v4/async-result/{_expect_id(answer['id'])}", None, _parse_zai_status
    )


def _parse_zai_status(state: Any) -> str | None:
    match state.get("task_status"):
        case "SUCCESS":
            return None
        case "PROCESSING":
            return "being made"
        case _:
            raise ProviderCallFailed(_error_message(state.get("error") or state.get("message")))


def _parse_replicate(_: str, answer: Any) -> PendingCall | None:
    match answer:
        case {"status": "failed" | "canceled" as status}:
            raise ProviderCallFailed(_error_message(answer.get("error") or status))
        case {"output": output} if output is not None:
            return None
        case _:
            # The router forwards the creation of predictions; it is not known to forward polls.
            raise NotPollable("replicate was still at work after its waiting time of one minute")


_PARSERS: Final[Mapping[str, Callable[[str, Any], PendingCall | None]]] = {
    "fal-ai": _parse_fal,
    "together": _parse_together,
    "wavespeed": _parse_wavespeed,
    "zai-org": _parse_zai,
    "replicate": _parse_replicate,
}


def _error_message(error: Any) -> str:
    return parse_error_message(error) or "it gives no reason"


def _expect_id(value: Any) -> str:
    if not isinstance(value, str) or not _ID_PATTERN.fullmatch(value):
        raise ValueError
    return value


def _expect_url_path(url: Any) -> str:
    """Return the path of a URL; the provider may choose neither the host nor a parent folder."""
    path = urlsplit(url if isinstance(url, str) else "").path
    if not _PATH_PATTERN.fullmatch(path) or ".." in path.split("/"):
        raise ValueError
    return path
