"""The outcome of a call that a provider has accepted: from now on it may be charged for.

Nothing is sent a second time. The output is awaited, fetched and stored. If it cannot be stored,
the outcome says that it is lost, with as much of the response as there is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from schema.accounts.vault import Secret
from schema.artifacts.files import NewJobFile
from schema.common.durations import format_duration
from schema.common.text import format_count
from schema.hub.client import HubAmbiguous, HubError, HubRejected, HubUnreachable
from schema.hub.url_fetcher import Fetcher, FetchError, FetchFailed
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

T = TypeVar("T")

_POLL_TIMEOUT: Final = timedelta(seconds=15)
_FIRST_POLL_PAUSE_SECONDS: Final = 0.1
_POLL_PAUSE_FACTOR: Final = 1.5
_RETRY_PAUSE_SECONDS: Final = 0.5
_MAX_POLL_PAUSE_SECONDS: Final = 5.0
_MAX_FETCH_TRIES: Final = 3
_THREAD_PARSE_MIN_BYTES: Final = 200_000
"""From this size on, JSON is parsed in a thread, because it would block the event loop."""
_MAX_INLINE_CHARS: Final = 64_000
"""Longer embeddings become a file instead of a part of the result."""
_MEDIA_TYPES_BY_KIND: Final = {
    "image": media_types.IMAGES,
    "audio": media_types.AUDIO,
    "video": media_types.VIDEO,
}
_FILE_EXTENSIONS: Final = {"jpeg": "jpg", "mpeg": "mp3", "quicktime": "mov"}


class CallDeadline:
    """The deadline of a call."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = anyio.current_time() + timeout.total_seconds()

    def remaining(self) -> timedelta:
        """Return the time that is left; zero once it has passed."""
        return timedelta(seconds=max(0.0, self._end - anyio.current_time()))

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return not self.remaining()


class _CallTimedOut(Exception):
    """The provider was still at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCall:
    """An accepted call, with what is needed to await its outcome."""

    router: Router
    fetcher: Fetcher
    max_bytes: int
    spec: InferenceSpec
    provider: str | None
    """None for a chat: the router chooses it."""
    path: str
    """The path that it was sent to."""
    token: Secret
    deadline: CallDeadline
    report_progress: ReportProgress | None

    async def await_outcome(self, response: RouterResponse) -> Outcome:
        """Await the output and return the outcome."""
        provider = self.provider or response.provider or "the provider"
        try:
            output = await self._await_output(response)
            fields, files = await self._split_output(output)
        except HubError as error:
            return _outcome_of_hub_error(provider, error)
        except (ProviderCallFailed, UnreadableResponse, FetchError) as error:
            return _outcome_of_failure(provider, error, response, self.max_bytes)
        except _CallTimedOut:
            message = (
                f"It was still at work at {provider} after {format_duration(self.spec.timeout)}, "
                "and is charged if it finishes there."
            )
            return failed_outcome("OUT_OF_TIME", message, reason=Reason.TIMED_OUT)
        result = {
            "task": self.spec.task,
            "model": self.spec.model,
            "provider": self.provider or response.provider,
            **fields,
        }
        if output.problem is not None:
            message = f"{provider} has answered, but {_describe_empty_answer(output)}"
            run_result = RunResult(
                JobState.FAILED, "NOTHING_USABLE", Reason.CALL_FAILED, message, result=result
            )
            return Completed(run_result, tuple(files))
        return Completed(RunResult(JobState.SUCCEEDED, "ANSWERED", result=result), tuple(files))

    async def _await_output(self, response: RouterResponse) -> TaskOutput:
        task = self.spec.task
        if not response.is_json or task == CHAT:
            return await _parse_in_thread_if_large(
                response, partial(responses.parse_response, task, response)
            )
        try:
            answer = await _parse_in_thread_if_large(response, response.json)
            pending = polling.parse_pending_call(self.provider or "", self.path, answer)
        except (LookupError, TypeError, AttributeError, ValueError):
            raise UnreadableResponse("its response cannot be read") from None
        if pending is None:
            return await _parse_in_thread_if_large(
                response, partial(responses.parse_json, task, answer)
            )
        return responses.parse_json(task, await self._poll_until_done(pending))

    async def _poll_until_done(self, pending: PendingCall) -> Any:
        """Poll the status until the call is done."""
        pause = _FIRST_POLL_PAUSE_SECONDS
        while True:
            await anyio.sleep(min(pause, self.deadline.remaining().total_seconds()))
            pause = min(_MAX_POLL_PAUSE_SECONDS, pause * _POLL_PAUSE_FACTOR)
            if (state := await self._poll_once(pending.status_path)) is None:
                continue
            if (status := _parse_status(pending, state)) is None:
                return (
                    state
                    if pending.result_path is None
                    else await self._fetch_result(pending.result_path)
                )
            if self.report_progress is not None:
                self.report_progress(JobProgress(message=f"{self.provider}: {status}"))

    async def _fetch_result(self, path: str) -> Any:
        while True:
            try:
                if (answer := await self._poll_once(path)) is not None:
                    return answer
            except HubRejected as error:
                # For a failed call, fal gives the reason at the URL of the result.
                raise ProviderCallFailed(error.message) from None
            await anyio.sleep(_RETRY_PAUSE_SECONDS)

    async def _poll_once(self, path: str) -> Any:
        """Send one request that may be repeated; return None if there was no answer this time."""
        if self.deadline.has_passed:
            raise _CallTimedOut
        request = RouterRequest(path, headers=requests.billing_headers(self.spec), method="GET")
        timeout = min(_POLL_TIMEOUT, self.deadline.remaining())
        try:
            response = await self.router.send(
                request, self.token, timeout=timeout, max_bytes=2 * self.max_bytes
            )
            return response.json()
        except (HubUnreachable, HubAmbiguous, ModelLoading, ValueError):
            return None
        except HubRejected as error:
            if error.status == HTTPStatus.TOO_MANY_REQUESTS:
                return None
            raise

    async def _split_output(self, output: TaskOutput) -> tuple[dict[str, Any], list[NewJobFile]]:
        """Return what goes into the result, and what goes into files."""
        if (kind := responses.media_kind(self.spec.task)) is not None:
            media = [await self._load_media(item, kind) for item in output.media]
            return output.result, [
                _to_new_file(kind, index, item) for index, item in enumerate(media)
            ]
        vectors = output.result.get("embeddings")
        if vectors is None:
            return output.result, output.files
        counts = {"count": len(vectors), "dimensions": _count_dimensions(vectors)}
        text = await anyio.to_thread.run_sync(partial(json.dumps, vectors, separators=(",", ":")))
        if len(text) <= _MAX_INLINE_CHARS:
            return {**output.result, **counts}, []
        if len(text) > self.max_bytes:
            raise ResponseTooLarge(f"the answer has more than {self.max_bytes} bytes")
        rest = {name: value for name, value in output.result.items() if name != "embeddings"}
        file = NewJobFile.from_content("embeddings.json", text.encode(), "application/json")
        return {**rest, **counts}, [file]

    async def _load_media(self, item: bytes | str, kind: str) -> tuple[bytes, str]:
        accept = _MEDIA_TYPES_BY_KIND[kind]
        if isinstance(item, bytes):
            if len(item) > self.max_bytes:
                raise ResponseTooLarge(f"the {kind} has more than {self.max_bytes} bytes")
            try:
                return item, media_types.detect_media_type(item, accept)
            except ValueError as error:
                raise UnreadableResponse(f"instead of {kind}, {error}") from None
        tries_left = _MAX_FETCH_TRIES
        while True:
            tries_left -= 1
            try:
                # Without a token: the provider chose the URL, and it may lead anywhere.
                file = await self.fetcher.fetch(
                    item, max_bytes=self.max_bytes, timeout=self.deadline.remaining(), accept=accept
                )
            except FetchFailed:
                if not tries_left or self.deadline.has_passed:
                    raise
                await anyio.sleep(_RETRY_PAUSE_SECONDS)
            else:
                return file.content, file.media_type


def failed_outcome(
    stage: str, message: str, *files: NewJobFile, reason: Reason = Reason.CALL_FAILED
) -> Completed:
    """Build the outcome of an accepted call that failed."""
    return Completed(RunResult(JobState.FAILED, stage, reason, message), files)


def _describe_empty_answer(output: TaskOutput) -> str:
    """Say what came back of a call that can be used for nothing, and what it cost."""
    usage = output.result.get("usage", {})
    counts = [
        format_count(usage[name], f"{name.partition('_')[0]} token")
        for name in ("prompt_tokens", "completion_tokens")
        if isinstance(usage.get(name), int)
    ]
    cost = f" It used {' and '.join(counts)}." if counts else ""
    return f"with nothing that can be used: {output.problem}.{cost} The result has what came back."


def _outcome_of_hub_error(provider: str, error: HubError) -> Outcome:
    if isinstance(error, ResponseTooLarge):
        return failed_outcome("TOO_LARGE", f"It was carried out, but {error}.")
    return Unknown(f"{provider} accepted it, and then: {error}")


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
            # The response was paid for, so it is kept: the user may be able to read it.
            file = NewJobFile.from_content(
                "answer", response.body[:max_bytes], response.media_type or None
            )
            return failed_outcome("UNREADABLE", f"{provider} has answered, but {error}.", file)


def _parse_status(pending: PendingCall, state: Any) -> str | None:
    try:
        return pending.parse_status(state)
    except (LookupError, TypeError, AttributeError):
        raise UnreadableResponse("its status cannot be read") from None


async def _parse_in_thread_if_large(response: RouterResponse, parse: Callable[[], T]) -> T:
    """Parse a response: in a thread if it is large, so that the event loop is not blocked."""
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
