"""What a provider gives that does not answer at once: where to ask how it goes, until it is done.

Polled here, and not by the Hub's own client: that one waits in a thread without a deadline, and
one of its loops does not end for a call that has failed.

    fal-ai      a queue: its state in one place, the answer in another
    together    films: state and answer in one
    wavespeed   everything: state and answer in one
    zai-org     pictures: state and answer in one
    replicate   waits itself for a minute; what is not there by then cannot be asked for
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
    """The provider says that the call has failed; the text is what it says."""


class NotPollable(HubError):
    """The provider goes on, and nobody can ask how."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that goes on at a provider."""

    status_path: str
    """Where to ask how it goes; below the router's address, as `answer`."""
    result_path: str | None
    """Where the answer is once it is done; none: in the state."""
    parse_status: Callable[[Any], str | None]
    """Reads a state: none once it is done, else a few words; raises `Failed`."""


def parse_pending_call(provider: str, path: str, answer: Any) -> PendingCall | None:
    """Return what was given instead of an answer; none if it is one.

    Raises:
        Failed: the call has failed already.
        Unasked: the call goes on, and its answer cannot be had.
        LookupError, TypeError, AttributeError, ValueError: it is not what that provider gives.
    """
    give = _PARSERS.get(provider)
    return None if give is None else give(path, answer)


def _parse_fal(path: str, answer: Any) -> PendingCall | None:
    if "_subdomain=queue" not in path:
        return None
    # The model is called otherwise there than in the request, for some.
    place = f"/fal-ai{_expect_url_path(answer['response_url'])}"
    query = urlsplit(path).query
    return PendingCall(f"{place}/status?{query}", f"{place}?{query}", _parse_fal_status)


def _parse_fal_status(state: Any) -> str | None:
    if state.get("error"):
        raise ProviderCallFailed(_error_message(state["error"]))
    match state.get("status"):
        case "COMPLETED":
            return None
        case "IN_QUEUE":
            ahead = state.get("queue_position")
            return f"in a queue, {ahead} ahead" if isinstance(ahead, int) else "in a queue"
        case "IN_PROGRESS":
            return "being made"
        case other:
            raise ProviderCallFailed(_error_message(other))


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
        case other:
            raise ProviderCallFailed(_error_message(state.get("error") or other))


def _parse_wavespeed(_: str, answer: Any) -> PendingCall | None:
    place = _expect_url_path(answer["data"]["urls"]["get"])
    return PendingCall(f"/wavespeed{place}", None, _parse_wavespeed_status)


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
            # The router is known to pass creations on, not to pass questions about them on.
            raise NotPollable("replicate was still at work after the minute it can be waited for")


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
    """Return the path of an address: the host is not the provider's to say, nor is the way up."""
    path = urlsplit(url if isinstance(url, str) else "").path
    if not _PATH_PATTERN.fullmatch(path) or ".." in path.split("/"):
        raise ValueError
    return path
