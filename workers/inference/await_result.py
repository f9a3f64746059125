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
from schema.artifacts.files import NewJobFile
from schema.common.durations import format_duration
from schema.hub.client import HubAmbiguous, HubError, HubRejected, HubUnreachable
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from schema.specs.inference import CHAT, InferenceSpec
from schema.specs.inputs import media_types
from workers.executor import Completed, Outcome, ReportProgress, Unknown
from workers.inference import polling, requests, responses
from workers.inference.polling import PendingCall, ProviderCallFailed
from workers.inference.responses import TaskOutput, UnreadableResponse
from workers.inference.router import (
    ModelLoading,
    ResponseTooLarge,
    Router,
    RouterRequest,
    RouterResponse,
)
from workers.inputs.url_fetcher import Fetcher, FetchError, FetchFailed

T = TypeVar("T")

_POLL_TIMEOUT: Final = timedelta(seconds=15)
_FIRST_POLL_PAUSE_SECONDS: Final = 0.1
_POLL_PAUSE_FACTOR: Final = 1.5
_RETRY_PAUSE_SECONDS: Final = 0.5
_MAX_POLL_PAUSE_SECONDS: Final = 5.0
_MAX_FETCH_TRIES: Final = 3
_TOO_MANY: Final = 429
_THREAD_PARSE_MIN_BYTES: Final = 200_000
"""Bytes of JSON that take so long to read that it is done beside the loop."""
_MAX_INLINE_CHARS: Final = 64_000
"""Characters of embeddings up to which they stand in the result; more are a file."""
_MEDIA_TYPES_BY_KIND: Final = {
    "image": media_types.IMAGES,
    "audio": media_types.AUDIO,
    "video": media_types.VIDEO,
}
_FILE_EXTENSIONS: Final = {"jpeg": "jpg", "mpeg": "mp3", "quicktime": "mov"}


class CallDeadline:
    """How much is left of the time a call may take."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = anyio.current_time() + timeout.total_seconds()

    def remaining(self) -> timedelta:
        """Return what is left; nothing, once it is over."""
        return timedelta(seconds=max(0.0, self._end - anyio.current_time()))

    @property
    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return not self.remaining()


class _CallTimedOut(Exception):
    """The provider was still at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCall:
    """A call that was taken, and what is needed to see it through."""

    router: Router
    fetcher: Fetcher
    max_bytes: int
    spec: InferenceSpec
    provider: str | None
    """None of a chat: the router chooses."""
    path: str
    """Where it was sent to."""
    token: Secret
    deadline: CallDeadline
    report_progress: ReportProgress | None

    async def await_outcome(self, response: RouterResponse) -> Outcome:
        """See it through, and say how it went."""
        by = self.provider or response.provider or "the provider"
        try:
            answer = await self._await_output(response)
            said, files = await self._split_output(answer)
        except HubError as error:
            return _outcome_of_hub_error(by, error)
        except (ProviderCallFailed, UnreadableResponse, FetchError) as why:
            return _outcome_of_failure(by, why, response, self.max_bytes)
        except _CallTimedOut:
            message = (
                f"It was still at work at {by} after {format_duration(self.spec.timeout)}, and "
                "is charged if "
                f"it comes to its end there."
            )
            return failed_outcome("OUT_OF_TIME", message, reason=Reason.TIMED_OUT)
        result = {
            "task": self.spec.task,
            "model": self.spec.model,
            "provider": self.provider or response.provider,
            **said,
        }
        return Completed(RunResult(JobState.SUCCEEDED, "ANSWERED", result=result), tuple(files))

    async def _await_output(self, response: RouterResponse) -> TaskOutput:
        task = self.spec.task
        if not response.is_json or task == CHAT:
            return await _parse_in_thread_if_large(
                response, partial(responses.parse_response, task, response)
            )
        try:
            first = await _parse_in_thread_if_large(response, response.json)
            given = polling.parse_pending_call(self.provider or "", self.path, first)
        except (LookupError, TypeError, AttributeError, ValueError):
            raise UnreadableResponse("it is not known what with") from None
        if given is None:
            return await _parse_in_thread_if_large(
                response, partial(responses.parse_json, task, first)
            )
        return responses.parse_json(task, await self._poll_until_done(given))

    async def _poll_until_done(self, pending: PendingCall) -> Any:
        """Ask how it goes until it is done."""
        pause = _FIRST_POLL_PAUSE_SECONDS
        while True:
            await anyio.sleep(min(pause, self.deadline.remaining().total_seconds()))
            pause = min(_MAX_POLL_PAUSE_SECONDS, pause * _POLL_PAUSE_FACTOR)
            if (state := await self._poll_once(pending.status_path)) is None:
                continue
            if (doing := _parse_status(pending, state)) is None:
                return (
                    state
                    if pending.result_path is None
                    else await self._fetch_result(pending.result_path)
                )
            if self.report_progress is not None:
                self.report_progress(JobProgress(message=f"{self.provider}: {doing}"))

    async def _fetch_result(self, path: str) -> Any:
        while True:
            try:
                if (answer := await self._poll_once(path)) is not None:
                    return answer
            except HubRejected as no:
                # Where it keeps the answer of a call that came to nothing, fal says why.
                raise ProviderCallFailed(no.message) from None
            await anyio.sleep(_RETRY_PAUSE_SECONDS)

    async def _poll_once(self, path: str) -> Any:
        """Ask something, which may be asked again; none if there was no answer this time."""
        if self.deadline.has_passed:
            raise _CallTimedOut
        asking = RouterRequest(path, headers=requests.billing_headers(self.spec), method="GET")
        within = min(_POLL_TIMEOUT, self.deadline.remaining())
        try:
            received = await self.router.send(
                asking, self.token, timeout=within, max_bytes=2 * self.max_bytes
            )
            return received.json()
        except (HubUnreachable, HubAmbiguous, ModelLoading, ValueError):
            return None
        except HubRejected as no:
            if no.status == _TOO_MANY:
                return None
            raise

    async def _split_output(self, output: TaskOutput) -> tuple[dict[str, Any], list[NewJobFile]]:
        """Return what goes into the result, and what goes into files."""
        if (kind := responses.media_kind(self.spec.task)) is not None:
            made = [await self._load_media(each, kind) for each in output.media]
            return output.result, [
                _to_new_file(kind, place, each) for place, each in enumerate(made)
            ]
        vectors = output.result.get("embeddings")
        if vectors is None:
            return output.result, []
        counted = {"count": len(vectors), "dimensions": _count_dimensions(vectors)}
        written = await anyio.to_thread.run_sync(
            partial(json.dumps, vectors, separators=(",", ":"))
        )
        if len(written) <= _MAX_INLINE_CHARS:
            return {**output.result, **counted}, []
        if len(written) > self.max_bytes:
            raise ResponseTooLarge(f"the answer has more than {self.max_bytes} bytes")
        rest = {name: value for name, value in output.result.items() if name != "embeddings"}
        file = NewJobFile.from_content("embeddings.json", written.encode(), "application/json")
        return {**rest, **counted}, [file]

    async def _load_media(self, item: bytes | str, kind: str) -> tuple[bytes, str]:
        accept = _MEDIA_TYPES_BY_KIND[kind]
        if isinstance(item, bytes):
            if len(item) > self.max_bytes:
                raise ResponseTooLarge(f"the {kind} has more than {self.max_bytes} bytes")
            try:
                return item, media_types.detect_media_type(item, accept)
            except ValueError as error:
                raise UnreadableResponse(f"instead of {kind}, {error}") from None
        tries = _MAX_FETCH_TRIES
        while True:
            tries -= 1
            try:
                # With nobody's token: the address is the provider's, wherever it leads.
                fetched = await self.fetcher.fetch(
                    item, max_bytes=self.max_bytes, timeout=self.deadline.remaining(), accept=accept
                )
            except FetchFailed:
                if not tries or self.deadline.has_passed:
                    raise
                await anyio.sleep(_RETRY_PAUSE_SECONDS)
            else:
                return fetched.content, fetched.media_type


def failed_outcome(
    stage: str, message: str, *files: NewJobFile, reason: Reason = Reason.CALL_FAILED
) -> Completed:
    """Say that a call that was taken has come to nothing."""
    return Completed(RunResult(JobState.FAILED, stage, reason, message), files)


def _outcome_of_hub_error(provider: str, error: HubError) -> Outcome:
    if isinstance(error, ResponseTooLarge):
        return failed_outcome("TOO_LARGE", f"It was carried out, but {error}.")
    return Unknown(f"{provider} has taken it, and then: {error}")


def _outcome_of_failure(
    provider: str, error: Exception, response: RouterResponse, max_bytes: int
) -> Outcome:
    match error:
        case ProviderCallFailed():
            return failed_outcome("FAILED", f"{provider}: {error}")
        case FetchError():
            return failed_outcome(
                "UNFETCHED", f"{provider} has made it, but it could not be fetched: {error}"
            )
        case _:
            # What was paid for is not thrown away: somebody may be able to read it.
            left = NewJobFile.from_content(
                "answer", response.body[:max_bytes], response.media_type or None
            )
            return failed_outcome("UNREADABLE", f"{provider} has answered, but {error}.", left)


def _parse_status(pending: PendingCall, state: Any) -> str | None:
    try:
        return pending.parse_status(state)
    except (LookupError, TypeError, AttributeError):
        raise UnreadableResponse("how it goes cannot be read") from None


async def _parse_in_thread_if_large(response: RouterResponse, parse: Callable[[], T]) -> T:
    """Do what takes long for a long answer beside the loop."""
    if len(response.body) < _THREAD_PARSE_MIN_BYTES:
        return parse()
    return await anyio.to_thread.run_sync(parse)


def _count_dimensions(vectors: list[Any]) -> int:
    inner = vectors[0]
    while isinstance(inner[0], list):
        inner = inner[0]
    return len(inner)


def _to_new_file(kind: str, index: int, media: tuple[bytes, str]) -> NewJobFile:
    content, media_type = media
    subtype = media_type.partition("/")[2]
    number = f"-{index + 1}" if index else ""
    return NewJobFile.from_content(
        f"{kind}{number}.{_FILE_EXTENSIONS.get(subtype, subtype)}", content, media_type
    )
