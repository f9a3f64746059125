"""What becomes of a call that a provider has taken: from now on it may be paid for.

Nothing is sent a second time. What the provider makes is waited for, fetched and kept; what cannot
be kept is said to be lost, with as much of the answer as there is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from schema.accounts.vault import Secret
from schema.artifacts.files import NewFile
from schema.common.durations import say
from schema.jobs.progress import Progress
from schema.jobs.run_end import Ending
from schema.jobs.tables import JobState, Reason
from schema.specs.inference import CHAT, InferenceSpec
from schema.specs.inputs import media_types
from workers.executor import Answered, Outcome, Report, Unclear
from workers.hub.client import Ambiguous, Answered4xx, HubError, Unreached
from workers.inference import polling, requests, responses
from workers.inference.polling import Failed, Ticket
from workers.inference.responses import Answer, Unreadable
from workers.inference.router import Loading, Received, Router, Sending, TooLarge
from workers.inputs.url_fetcher import Fetcher, FetchError, FetchFailed

T = TypeVar("T")

_LOOK: Final = timedelta(seconds=15)
_FIRST_PAUSE: Final = 0.1
_SLOWER: Final = 1.5
_BETWEEN: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_TRIES: Final = 3
_TOO_MANY: Final = 429
_LONG: Final = 200_000
"""Bytes of JSON that take so long to read that it is done beside the loop."""
_INLINE: Final = 64_000
"""Characters of embeddings up to which they stand in the result; more are a file."""
_FAMILIES: Final = {
    "image": media_types.IMAGES,
    "audio": media_types.AUDIO,
    "video": media_types.VIDEO,
}
_ENDINGS: Final = {"jpeg": "jpg", "mpeg": "mp3", "quicktime": "mov"}


class Clock:
    """How much is left of the time a call may take."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = anyio.current_time() + timeout.total_seconds()

    def left(self) -> timedelta:
        """Return what is left; nothing, once it is over."""
        return timedelta(seconds=max(0.0, self._end - anyio.current_time()))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return not self.left()


class _OutOfTime(Exception):
    """The provider was still at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A call that was taken, and what is needed to see it through."""

    router: Router
    fetcher: Fetcher
    limit: int
    spec: InferenceSpec
    provider: str | None
    """None of a chat: the router chooses."""
    path: str
    """Where it was sent to."""
    token: Secret
    clock: Clock
    report: Report | None

    async def outcome(self, received: Received) -> Outcome:
        """See it through, and say how it went."""
        by = self.provider or received.provider or "the provider"
        try:
            answer = await self._answer(received)
            said, files = await self._kept(answer)
        except HubError as error:
            return _lost(by, error)
        except (Failed, Unreadable, FetchError) as why:
            return _nothing(by, why, received, self.limit)
        except _OutOfTime:
            message = (
                f"It was still at work at {by} after {say(self.spec.timeout)}, and is charged if "
                f"it comes to its end there."
            )
            return failed("OUT_OF_TIME", message, reason=Reason.TIMED_OUT)
        result = {
            "task": self.spec.task,
            "model": self.spec.model,
            "provider": self.provider or received.provider,
            **said,
        }
        return Answered(Ending(JobState.SUCCEEDED, "ANSWERED", result=result), tuple(files))

    async def _answer(self, received: Received) -> Answer:
        task = self.spec.task
        if not received.is_json or task == CHAT:
            return await _beside(received, partial(responses.read, task, received))
        try:
            first = await _beside(received, received.json)
            given = polling.ticket(self.provider or "", self.path, first)
        except (LookupError, TypeError, AttributeError, ValueError):
            raise Unreadable("it is not known what with") from None
        if given is None:
            return await _beside(received, partial(responses.read_json, task, first))
        return responses.read_json(task, await self._outlasted(given))

    async def _outlasted(self, given: Ticket) -> Any:
        """Ask how it goes until it is done."""
        pause = _FIRST_PAUSE
        while True:
            await anyio.sleep(min(pause, self.clock.left().total_seconds()))
            pause = min(_LONGEST_PAUSE, pause * _SLOWER)
            if (state := await self._asked(given.state)) is None:
                continue
            if (doing := _read(given, state)) is None:
                return state if given.answer is None else await self._collected(given.answer)
            if self.report is not None:
                self.report(Progress(message=f"{self.provider}: {doing}"))

    async def _collected(self, path: str) -> Any:
        while True:
            try:
                if (answer := await self._asked(path)) is not None:
                    return answer
            except Answered4xx as no:
                # Where it keeps the answer of a call that came to nothing, fal says why.
                raise Failed(no.message) from None
            await anyio.sleep(_BETWEEN)

    async def _asked(self, path: str) -> Any:
        """Ask something, which may be asked again; none if there was no answer this time."""
        if self.clock.is_over:
            raise _OutOfTime
        asking = Sending(path, headers=requests.billed(self.spec), method="GET")
        within = min(_LOOK, self.clock.left())
        try:
            received = await self.router.send(
                asking, self.token, within=within, limit=2 * self.limit
            )
            return received.json()
        except (Unreached, Ambiguous, Loading, ValueError):
            return None
        except Answered4xx as no:
            if no.status == _TOO_MANY:
                return None
            raise

    async def _kept(self, answer: Answer) -> tuple[dict[str, Any], list[NewFile]]:
        """Return what goes into the result, and what goes into files."""
        if (kind := responses.makes(self.spec.task)) is not None:
            made = [await self._file(each, kind) for each in answer.made]
            return answer.said, [_named(kind, place, each) for place, each in enumerate(made)]
        vectors = answer.said.get("embeddings")
        if vectors is None:
            return answer.said, []
        counted = {"count": len(vectors), "dimensions": _dimensions(vectors)}
        written = await anyio.to_thread.run_sync(
            partial(json.dumps, vectors, separators=(",", ":"))
        )
        if len(written) <= _INLINE:
            return {**answer.said, **counted}, []
        if len(written) > self.limit:
            raise TooLarge(f"the answer has more than {self.limit} bytes")
        rest = {name: value for name, value in answer.said.items() if name != "embeddings"}
        file = NewFile.of("embeddings.json", written.encode(), "application/json")
        return {**rest, **counted}, [file]

    async def _file(self, made: bytes | str, kind: str) -> tuple[bytes, str]:
        accept = _FAMILIES[kind]
        if isinstance(made, bytes):
            if len(made) > self.limit:
                raise TooLarge(f"the {kind} has more than {self.limit} bytes")
            try:
                return made, media_types.recognize(made, accept)
            except ValueError as error:
                raise Unreadable(f"instead of {kind}, {error}") from None
        tries = _TRIES
        while True:
            tries -= 1
            try:
                # With nobody's token: the address is the provider's, wherever it leads.
                fetched = await self.fetcher.fetch(
                    made, limit_bytes=self.limit, within=self.clock.left(), accept=accept
                )
            except FetchFailed:
                if not tries or self.clock.is_over:
                    raise
                await anyio.sleep(_BETWEEN)
            else:
                return fetched.content, fetched.media_type


def failed(
    stage: str, message: str, *files: NewFile, reason: Reason = Reason.CALL_FAILED
) -> Answered:
    """Say that a call that was taken has come to nothing."""
    return Answered(Ending(JobState.FAILED, stage, reason, message), files)


def _lost(by: str, error: HubError) -> Outcome:
    if isinstance(error, TooLarge):
        return failed("TOO_LARGE", f"It was carried out, but {error}.")
    return Unclear(f"{by} has taken it, and then: {error}")


def _nothing(by: str, why: Exception, received: Received, limit: int) -> Outcome:
    match why:
        case Failed():
            return failed("FAILED", f"{by}: {why}")
        case FetchError():
            return failed("UNFETCHED", f"{by} has made it, but it could not be fetched: {why}")
        case _:
            # What was paid for is not thrown away: somebody may be able to read it.
            left = NewFile.of("answer", received.body[:limit], received.media_type or None)
            return failed("UNREADABLE", f"{by} has answered, but {why}.", left)


def _read(given: Ticket, state: Any) -> str | None:
    try:
        return given.read(state)
    except (LookupError, TypeError, AttributeError):
        raise Unreadable("how it goes cannot be read") from None


async def _beside(received: Received, work: Callable[[], T]) -> T:
    """Do what takes long for a long answer beside the loop."""
    if len(received.body) < _LONG:
        return work()
    return await anyio.to_thread.run_sync(work)


def _dimensions(vectors: list[Any]) -> int:
    inner = vectors[0]
    while isinstance(inner[0], list):
        inner = inner[0]
    return len(inner)


def _named(kind: str, place: int, made: tuple[bytes, str]) -> NewFile:
    content, media_type = made
    subtype = media_type.partition("/")[2]
    number = f"-{place + 1}" if place else ""
    return NewFile.of(f"{kind}{number}.{_ENDINGS.get(subtype, subtype)}", content, media_type)
