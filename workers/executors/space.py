"""The executor of calls to Gradio Spaces: sent once, followed to the end, its files stored.

    find ─▶ wait until awake ─▶ read its API ─▶ upload files ─▶ join the queue ─▶ follow ─▶ store
    └──────────────── nothing has been started ─────────────┘   └── if lost: outcome unknown ───┘

A call has no id to ask for later. Before it joins the queue, another try is harmless; after that,
a call that is lost has an unknown outcome, and is never repeated without the caller.

The result is `{"space", "api_name", "outputs": [{"label", "component", "value"}]}`. In it a file is
`{"file": NAME}` if the job has stored it, and else says why it was not stored.
"""

import re
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, assert_never, cast

import anyio
import httpx2
from pydantic import ValidationError

from schema.accounts.vault import Secret
from schema.common.durations import format_duration
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.hub.gradio_api import Endpoint, GradioApi, InvalidCall
from schema.hub.gradio_client import (
    Space,
    SpaceBroken,
    SpaceUnavailable,
    fetch_api,
    open_space_session,
    parse_space,
)
from schema.hub.hub_files import HubFileReader
from schema.hub.url_fetcher import Fetcher, FetchFailed, FetchRefused
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.inputs.file_argument import FileArgument
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.space import SpaceCallSpec
from workers.attempts.error_outcomes import outcome_from_error, reject_outdated_spec
from workers.executor import (
    Completed,
    ExecutionRequest,
    Executor,
    ExecutorDeps,
    Outcome,
    Rejected,
    RetryLater,
    Unknown,
)
from workers.hub.client import HubJobsClient
from workers.spaces.client import (
    CallCompleted,
    CallFailed,
    CallOutcomeUnknown,
    CallStatus,
    SpaceCall,
    SpaceQueueFull,
)
from workers.spaces.results import collect_results

_LOOKUP_TIMEOUT: Final = timedelta(seconds=10)
_FETCH_TIMEOUT: Final = timedelta(minutes=1)
_FIRST_WAKE_PAUSE_SECONDS: Final = 0.5
_MAX_WAKE_PAUSE_SECONDS: Final = 5.0
_MAX_UPLOAD_BYTES: Final = 32 * 1024 * 1024
"""Bytes of all the files that are uploaded for one call."""
_CANCEL_TIMEOUT_SECONDS: Final = 2.0
_HTML_TAG_PATTERN: Final = re.compile(r"<[^<>]{0,500}>")
_QUOTA_PATTERN: Final = re.compile(r"GPU quota|quota exceeded", re.IGNORECASE)
_FILE_META: Final = {"_type": "gradio.FileData"}
_NOT_STARTED_ERRORS: Final = (
    *(InvalidCall, SpaceBroken, SpaceUnavailable, SpaceQueueFull),
    *(FetchRefused, FetchFailed, HubUnreachable, HubAmbiguous, HubRejected),
)
_NotStartedError = (
    InvalidCall
    | SpaceBroken
    | SpaceUnavailable
    | SpaceQueueFull
    | FetchRefused
    | FetchFailed
    | HubUnreachable
    | HubAmbiguous
    | HubRejected
)


class SpaceExecutor:
    """Calls endpoints of Gradio Spaces."""

    kind = JobKind.SPACE_CALL
    is_call = True
    resumes = False
    slots = 24

    def __init__(self, hub: HubJobsClient, spaces_url: str, fetcher: Fetcher) -> None:
        self._hub = hub
        self._spaces_url = spaces_url
        self._fetcher = fetcher
        self._files = HubFileReader(hub, fetcher)

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Make the call, once, and wait for its end."""
        try:
            spec = SpaceCallSpec.model_validate(request.spec)
        except ValidationError as error:
            return reject_outdated_spec(error)
        try:
            return await self._call_space(request, spec)
        except _NOT_STARTED_ERRORS as error:
            return _not_started_outcome(f"The Space {spec.space}", error)
        except CallOutcomeUnknown as error:
            return Unknown(
                f"The outcome of the call to the Space {spec.space} is unknown: {error}."
            )

    async def _call_space(self, request: ExecutionRequest, spec: SpaceCallSpec) -> Outcome:
        deadline = anyio.current_time() + spec.timeout.total_seconds()
        space = await self._find_space(request, spec)
        async with open_space_session(space.build_url(self._spaces_url), request.token) as session:
            prepared: tuple[SpaceCall, Endpoint, list[Any]] | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                prepared = await self._prepare_call(request, spec, space, session)
            if prepared is None:
                return Rejected(
                    Reason.HUB_UNAVAILABLE,
                    f"The Space {spec.space} was not ready within "
                    f"{format_duration(spec.timeout)}; nothing was started.",
                )
            call, endpoint, values = prepared
            call_end: CallCompleted | CallFailed | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                call_end = await _follow_call(request, call, values)
            if call_end is None:
                return _failed_outcome(
                    Reason.TIMED_OUT,
                    f"It was still waiting or running after {format_duration(spec.timeout)}, and "
                    "was told to stop.",
                )
            if isinstance(call_end, CallFailed):
                return _call_failed_outcome(spec, call_end)
            return await _success_outcome(spec, call, endpoint, call_end)

    async def _prepare_call(
        self,
        request: ExecutionRequest,
        spec: SpaceCallSpec,
        space: Space,
        session: httpx2.AsyncClient,
    ) -> tuple[SpaceCall, Endpoint, list[Any]]:
        """Make everything ready that comes before the queue; return the values to send with it."""
        api = await self._wait_until_awake(request, spec, space, session)
        endpoint = api.choose_endpoint(spec.api_name)
        call = SpaceCall(session, api, endpoint)
        values = await self._upload_files(
            call, endpoint.bind_arguments(spec.arguments), request.token
        )
        return call, endpoint, values

    async def _find_space(self, request: ExecutionRequest, spec: SpaceCallSpec) -> Space:
        url = f"{self._hub.url}/api/spaces/{spec.space}"
        response = await self._hub.send("GET", url, request.token, timeout=_LOOKUP_TIMEOUT)
        space = parse_space(response.content)
        space.expect_callable()
        return space

    async def _wait_until_awake(
        self,
        request: ExecutionRequest,
        spec: SpaceCallSpec,
        space: Space,
        session: httpx2.AsyncClient,
    ) -> GradioApi:
        """Wait until the app returns its API; the request for it wakes a sleeping Space."""
        pause = _FIRST_WAKE_PAUSE_SECONDS
        while True:
            try:
                return await fetch_api(session)
            except InvalidCall:
                # While the Space starts, a page of the Hub answers in its place.
                if space.pending_stage is None:
                    raise
            except SpaceUnavailable as error:
                if error.status is not None and _is_final_status(error.status):
                    raise
            state = space.pending_stage or "does not answer yet"
            request.report_progress(
                JobProgress(message=f"The Space {state}; waiting for it to wake")
            )
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _MAX_WAKE_PAUSE_SECONDS)
            space = await self._find_space(request, spec)

    async def _upload_files(self, call: SpaceCall, values: list[Any], token: Secret) -> list[Any]:
        """Upload each file among the values, and put the app's reference to it in its place."""
        bytes_left = _MAX_UPLOAD_BYTES

        async def upload_in(value: Any) -> Any:
            nonlocal bytes_left
            if isinstance(value, FileArgument):
                content = value.content
                if content is None:
                    content = await self._fetch_file(value.url or "", token, bytes_left)
                bytes_left -= len(content)
                if bytes_left < 0:
                    raise InvalidCall(f"is given more than {_MAX_UPLOAD_BYTES:,} bytes in files.")
                path = await call.upload(value.name, content)
                return {"path": path, "orig_name": value.name, "meta": _FILE_META}
            if isinstance(value, list):
                return [await upload_in(item) for item in cast("list[object]", value)]
            if isinstance(value, dict):
                fields = cast("dict[str, object]", value)
                return {name: await upload_in(field) for name, field in fields.items()}
            return value

        return [await upload_in(value) for value in values]

    async def _fetch_file(self, url: str, token: Secret, max_bytes: int) -> bytes:
        max_bytes = max(max_bytes, 1)
        if url.startswith(HUB_URI_SCHEME):
            return await self._read_hub_file(HubUri.parse(url), token, max_bytes)
        async with self._fetcher.open(url, max_bytes=max_bytes, timeout=_FETCH_TIMEOUT) as body:
            return b"".join([chunk async for chunk in body.chunks()])

    async def _read_hub_file(self, uri: HubUri, token: Secret, max_bytes: int) -> bytes:
        try:
            content, _ = await self._files.read(
                uri, token, max_bytes=max_bytes, timeout=_FETCH_TIMEOUT
            )
        except HubRejected as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            # The Hub's 404 here is about the file, not about the Space.
            message = f"is given {uri}, which does not exist, or your token may not read it."
            raise InvalidCall(message) from None
        return content


def create_executor(deps: ExecutorDeps) -> Executor:
    """Create the executor; `discover_executors` finds this function by its name."""
    return SpaceExecutor(deps.hub, deps.settings.spaces_url, Fetcher())


async def _follow_call(
    request: ExecutionRequest, call: SpaceCall, values: list[Any]
) -> CallCompleted | CallFailed:
    """Follow a call to its end; if that fails for any reason, tell the app to stop."""
    if (refusal := await call.join_queue(values)) is not None:
        return refusal
    has_ended = False
    try:
        async with aclosing(call.follow_events()) as events:
            async for event in events:
                if not isinstance(event, CallStatus):
                    has_ended = True
                    return event
                request.report_progress(
                    JobProgress(event.done, event.total, event.message, call.partial_values.render)
                )
        raise CallOutcomeUnknown("the connection ended before the call did")
    finally:
        if not has_ended:
            with anyio.move_on_after(_CANCEL_TIMEOUT_SECONDS, shield=True):
                await _cancel_call(call)


async def _cancel_call(call: SpaceCall) -> None:
    try:
        await call.cancel()
    except SpaceUnavailable:
        # The app also notices that the event stream is closed.
        return


async def _success_outcome(
    spec: SpaceCallSpec, call: SpaceCall, endpoint: Endpoint, completed: CallCompleted
) -> Completed:
    outputs, files = await collect_results(call, endpoint.label_results(completed.values))
    result = {"space": spec.space, "api_name": endpoint.name, **outputs}
    return Completed(RunResult(JobState.SUCCEEDED, "ANSWERED", result=result), files)


def _call_failed_outcome(spec: SpaceCallSpec, failed: CallFailed) -> Completed:
    message = " ".join(_HTML_TAG_PATTERN.sub("", failed.message or "").split())
    reason = Reason.INSUFFICIENT_CREDITS if _QUOTA_PATTERN.search(message) else Reason.EXIT_NONZERO
    end = f"said: {message}" if message else "ended the call with an error, and gave no reason."
    return _failed_outcome(reason, f"The Space {spec.space} {end}")


def _failed_outcome(reason: Reason, message: str) -> Completed:
    return Completed(RunResult(JobState.FAILED, "FAILED", reason, message))


def _is_final_status(status: int) -> bool:
    return status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS


def _not_started_outcome(space_name: str, error: _NotStartedError) -> Outcome:  # noqa: PLR0911  # one for each cause
    """Return the outcome of an error before the call joined the queue."""
    match error:
        case InvalidCall() | FetchRefused():
            return Rejected(Reason.INVALID_REQUEST, f"{space_name} {error}")
        case SpaceBroken():
            return Rejected(Reason.HUB_UNAVAILABLE, f"{space_name} {error}")
        case SpaceQueueFull():
            return RetryLater(f"{space_name} has no room in its queue.")
        case SpaceUnavailable(status=status) if status is not None and _is_final_status(status):
            return Rejected(Reason.MISSING_PERMISSION, f"{space_name} cannot be called: {error}.")
        case HubRejected(status=HTTPStatus.NOT_FOUND):
            message = f"{space_name} does not exist, or your token may not see it."
            return Rejected(Reason.INVALID_REQUEST, message)
        case HubRejected():
            return outcome_from_error(error)
        case SpaceUnavailable():
            return RetryLater(f"{space_name} cannot be called: {error}.")
        case FetchFailed() | HubUnreachable() | HubAmbiguous():
            return RetryLater(str(error))
        case _:
            assert_never(error)
