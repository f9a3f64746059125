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

from workers.hub.client import HubError

_WORD: Final = re.compile(r"[\w-]{1,200}", re.ASCII)
_PATH: Final = re.compile(r"(/[\w.~-]{1,200}){1,20}", re.ASCII)


class Failed(Exception):
    """The provider says that the call has failed; the text is what it says."""


class Unasked(HubError):
    """The provider goes on, and nobody can ask how."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that goes on at a provider."""

    state: str
    """Where to ask how it goes; below the router's address, as `answer`."""
    answer: str | None
    """Where the answer is once it is done; none: in the state."""
    read: Callable[[Any], str | None]
    """Reads a state: none once it is done, else a few words; raises `Failed`."""


def ticket(provider: str, path: str, answer: Any) -> Ticket | None:
    """Return what was given instead of an answer; none if it is one.

    Raises:
        Failed: the call has failed already.
        Unasked: the call goes on, and its answer cannot be had.
        LookupError, TypeError, AttributeError, ValueError: it is not what that provider gives.
    """
    give = _GIVES.get(provider)
    return None if give is None else give(path, answer)


def _fal(path: str, answer: Any) -> Ticket | None:
    if "_subdomain=queue" not in path:
        return None
    # The model is called otherwise there than in the request, for some.
    place = f"/fal-ai{_place(answer['response_url'])}"
    query = urlsplit(path).query
    return Ticket(f"{place}/status?{query}", f"{place}?{query}", _fal_state)


def _fal_state(state: Any) -> str | None:
    if state.get("error"):
        raise Failed(_words(state["error"]))
    match state.get("status"):
        case "COMPLETED":
            return None
        case "IN_QUEUE":
            ahead = state.get("queue_position")
            return f"in a queue, {ahead} ahead" if isinstance(ahead, int) else "in a queue"
        case "IN_PROGRESS":
            return "being made"
        case other:
            raise Failed(_words(other))


def _together(path: str, answer: Any) -> Ticket | None:
    if not path.endswith("/videos"):
        return None
    return Ticket(f"{path}/{_word(answer['id'])}", None, _together_state)


def _together_state(state: Any) -> str | None:
    match state.get("status"):
        case "completed":
            return None
        case "queued" | "in_progress" | None as status:
            return "being made" if status == "in_progress" else "in a queue"
        case other:
            raise Failed(_words(state.get("error") or other))


def _wavespeed(_: str, answer: Any) -> Ticket | None:
    place = _place(answer["data"]["urls"]["get"])
    return Ticket(f"/wavespeed{place}", None, _wavespeed_state)


def _wavespeed_state(state: Any) -> str | None:
    match state["data"]:
        case {"status": "completed"}:
            return None
        case {"status": "created" | "processing"}:
            return "being made"
        case data:
            raise Failed(_words(data.get("error") or data.get("status")))


def _zai(_: str, answer: Any) -> Ticket | None:
    if answer.get("task_status") not in {"PROCESSING", "FAIL"}:
        return None
    _zai_state(answer)
    return Ticket(f"/zai-org/api/paas/v4/async-result/{_word(answer['id'])}", None, _zai_state)


def _zai_state(state: Any) -> str | None:
    match state.get("task_status"):
        case "SUCCESS":
            return None
        case "PROCESSING":
            return "being made"
        case _:
            raise Failed(_words(state.get("error") or state.get("message")))


def _replicate(_: str, answer: Any) -> Ticket | None:
    match answer:
        case {"status": "failed" | "canceled" as status}:
            raise Failed(_words(answer.get("error") or status))
        case {"output": output} if output is not None:
            return None
        case _:
            # The router is known to pass creations on, not to pass questions about them on.
            raise Unasked("replicate was still at work after the minute it can be waited for")


_GIVES: Final[Mapping[str, Callable[[str, Any], Ticket | None]]] = {
    "fal-ai": _fal,
    "together": _together,
    "wavespeed": _wavespeed,
    "zai-org": _zai,
    "replicate": _replicate,
}


def _words(said: Any) -> str:
    match said:
        case str():
            return said
        case {"message": str() as message} | {"msg": str() as message}:
            return message
        case _:
            return "it gives no reason"


def _word(said: Any) -> str:
    if not isinstance(said, str) or not _WORD.fullmatch(said):
        raise ValueError
    return said


def _place(url: Any) -> str:
    """Return the path of an address: the host is not the provider's to say, nor is the way up."""
    path = urlsplit(url if isinstance(url, str) else "").path
    if not _PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError
    return path
