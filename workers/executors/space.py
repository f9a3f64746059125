"""A call of a Gradio Space: sent once, followed while it waits and runs, its files brought home.

    find it ─▶ wake it ─▶ read what it takes ─▶ hand files over ─▶ join its queue ─▶ follow ─▶ keep
    └──────────────── nothing has been begun ───────────────────┘  └─ in doubt, nobody knows ─┘

It leaves no id that could be asked for later. Up to the queue another try is harmless; from there
on, what was lost is said to be unknown and never tried again behind the caller's back.

The result is `{"space", "api_name", "outputs": [{"label", "component", "value"}]}`. In it a file is
`{"file": NAME}` of one that the job keeps, or says why it was not kept.
"""

import re
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final, assert_never, cast

import anyio
import httpx2
from pydantic import ValidationError

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
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.inputs.file_argument import FileArgument
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
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused
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
_FIRST_WAKE_PAUSE_SECONDS: Final = 0.5
_MAX_WAKE_PAUSE_SECONDS: Final = 5.0
_MAX_UPLOAD_BYTES: Final = 32 * 1024 * 1024
"""Bytes of all the files that go along with a call."""
_CANCEL_TIMEOUT_SECONDS: Final = 2.0
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
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
    slots = 16

    def __init__(self, hub: HubJobsClient, spaces_url: str, fetcher: Fetcher) -> None:
        self._hub = hub
        self._spaces_url = spaces_url
        self._fetcher = fetcher

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
        except CallOutcomeUnknown as lost:
            return Unknown(f"The Space {spec.space} did not say how it went: {lost}.")

    async def _call_space(self, request: ExecutionRequest, spec: SpaceCallSpec) -> Outcome:
        deadline = anyio.current_time() + spec.timeout.total_seconds()
        space = await self._find_space(request, spec)
        async with open_space_session(space.build_url(self._spaces_url), request.token) as session:
            ready: tuple[SpaceCall, Endpoint, list[Any]] | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                ready = await self._prepare_call(request, spec, space, session)
            if ready is None:
                return Rejected(
                    Reason.HUB_UNAVAILABLE,
                    f"The Space {spec.space} was not ready within "
                    f"{format_duration(spec.timeout)}; nothing was "
                    f"started.",
                )
            call, endpoint, values = ready
            over: CallCompleted | CallFailed | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                over = await _follow_call(request, call, values)
            if over is None:
                return _failed_outcome(
                    Reason.TIMED_OUT,
                    f"It was still waiting or running after {format_duration(spec.timeout)}, and "
                    "was told to "
                    f"stop.",
                )
            if isinstance(over, CallFailed):
                return _call_failed_outcome(spec, over)
            return await _success_outcome(spec, call, endpoint, over)

    async def _prepare_call(
        self,
        request: ExecutionRequest,
        spec: SpaceCallSpec,
        space: Space,
        session: httpx2.AsyncClient,
    ) -> tuple[SpaceCall, Endpoint, list[Any]]:
        """Do all that comes before its queue."""
        app = await self._wait_until_awake(request, spec, space, session)
        endpoint = app.choose_endpoint(spec.api_name)
        call = SpaceCall(session, app.api_prefix, endpoint)
        return (
            call,
            endpoint,
            await self._upload_files(call, endpoint.bind_arguments(spec.arguments)),
        )

    async def _find_space(self, request: ExecutionRequest, spec: SpaceCallSpec) -> Space:
        url = f"{self._hub.url}/api/spaces/{spec.space}"
        answer = await self._hub.send("GET", url, request.token, timeout=_LOOKUP_TIMEOUT)
        space = parse_space(answer.content)
        space.expect_callable()
        return space

    async def _wait_until_awake(
        self,
        request: ExecutionRequest,
        spec: SpaceCallSpec,
        space: Space,
        session: httpx2.AsyncClient,
    ) -> GradioApi:
        """Wait for the app to say what it takes; that it is asked wakes it."""
        pause = _FIRST_WAKE_PAUSE_SECONDS
        while True:
            try:
                return await fetch_api(session)
            except InvalidCall:
                # While it comes up, what answers is a page of the Hub's.
                if space.pending_stage is None:
                    raise
            except SpaceUnavailable as shut:
                if shut.status is not None and _is_final_status(shut.status):
                    raise
            state = space.pending_stage or "does not answer yet"
            request.report_progress(
                JobProgress(message=f"The Space {state}; waiting for it to wake")
            )
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _MAX_WAKE_PAUSE_SECONDS)
            space = await self._find_space(request, spec)

    async def _upload_files(self, call: SpaceCall, values: list[Any]) -> list[Any]:
        """Replace each file by what the app calls it."""
        left = _MAX_UPLOAD_BYTES

        async def placed(value: Any) -> Any:
            nonlocal left
            if isinstance(value, FileArgument):
                content = value.content
                if content is None:
                    content = await self._fetch_file(value.url or "", left)
                left -= len(content)
                if left < 0:
                    raise InvalidCall(f"is given more than {_MAX_UPLOAD_BYTES:,} bytes in files.")
                path = await call.upload(value.name, content)
                return {"path": path, "orig_name": value.name, "meta": _FILE_META}
            if isinstance(value, list):
                return [await placed(each) for each in cast("list[object]", value)]
            if isinstance(value, dict):
                named = cast("dict[str, object]", value)
                return {name: await placed(each) for name, each in named.items()}
            return value

        return [await placed(value) for value in values]

    async def _fetch_file(self, url: str, max_bytes: int) -> bytes:
        within = timedelta(minutes=1)
        async with self._fetcher.open(url, max_bytes=max(max_bytes, 1), timeout=within) as body:
            return b"".join([part async for part in body.chunks()])


def executor(deps: ExecutorDeps) -> Executor:
    """Make this executor."""
    return SpaceExecutor(deps.hub, deps.settings.spaces_url, Fetcher())


async def _follow_call(
    request: ExecutionRequest, call: SpaceCall, values: list[Any]
) -> CallCompleted | CallFailed:
    """See a call to its end; whatever keeps us from that, the app is told to stop."""
    if (refused := await call.join_queue(values)) is not None:
        return refused
    over = False
    try:
        async with aclosing(call.follow_events()) as told:
            async for each in told:
                if not isinstance(each, CallStatus):
                    over = True
                    return each
                request.report_progress(JobProgress(each.done, each.total, each.message))
        raise CallOutcomeUnknown("it broke off")
    finally:
        if not over:
            with anyio.move_on_after(_CANCEL_TIMEOUT_SECONDS, shield=True):
                await _cancel_call(call)


async def _cancel_call(call: SpaceCall) -> None:
    try:
        await call.cancel()
    except SpaceUnavailable:
        # With the stream that breaks off it learns of it too.
        return


async def _success_outcome(
    spec: SpaceCallSpec, call: SpaceCall, endpoint: Endpoint, completed: CallCompleted
) -> Completed:
    outputs, files = await collect_results(call, endpoint.label_results(completed.values))
    result = {"space": spec.space, "api_name": endpoint.name, **outputs}
    return Completed(RunResult(JobState.SUCCEEDED, "ANSWERED", result=result), files)


def _call_failed_outcome(spec: SpaceCallSpec, failed: CallFailed) -> Completed:
    said = " ".join(_HTML_TAG_PATTERN.sub("", failed.message or "").split())
    reason = Reason.INSUFFICIENT_CREDITS if _QUOTA_PATTERN.search(said) else Reason.EXIT_NONZERO
    told = f"said: {said}" if said else "ended the call with an error, and keeps it to itself."
    return _failed_outcome(reason, f"The Space {spec.space} {told}")


def _failed_outcome(reason: Reason, message: str) -> Completed:
    return Completed(RunResult(JobState.FAILED, "FAILED", reason, message))


def _is_final_status(status: int) -> bool:
    return status < _SERVER_ERROR and status != _TOO_MANY


def _not_started_outcome(space_name: str, error: _NotStartedError) -> Outcome:  # noqa: PLR0911  # one for each cause
    """Say what came between, before anything was begun."""
    match error:
        case InvalidCall() | FetchRefused():
            return Rejected(Reason.INVALID_REQUEST, f"{space_name} {error}")
        case SpaceBroken():
            return Rejected(Reason.HUB_UNAVAILABLE, f"{space_name} {error}")
        case SpaceQueueFull():
            return RetryLater(f"{space_name} has no room in its queue.")
        case SpaceUnavailable(status=status) if status is not None and _is_final_status(status):
            return Rejected(Reason.MISSING_PERMISSION, f"{space_name} cannot be called: {error}.")
        case HubRejected(status=status) if status == _NOT_FOUND:
            unseen = f"{space_name} does not exist, or your token may not see it."
            return Rejected(Reason.INVALID_REQUEST, unseen)
        case HubRejected():
            return outcome_from_error(error)
        case SpaceUnavailable():
            return RetryLater(f"{space_name} cannot be called: {error}.")
        case FetchFailed() | HubUnreachable() | HubAmbiguous():
            return RetryLater(str(error))
        case _:
            assert_never(error)
