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

from schema.common.durations import say
from schema.gradio.api import Endpoint, Interface, Mismatch
from schema.gradio.client import Broken, Shut, Space, door, interface, read_space
from schema.jobs.progress import Progress
from schema.jobs.run_end import Ending
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.inputs.file_argument import GivenFile
from schema.specs.space import SpaceCallSpec
from workers.attempts.error_outcomes import outgrown, trouble
from workers.executor import Answered, Executor, Later, Means, Order, Outcome, Refused, Unclear
from workers.hub.client import Ambiguous, Answered4xx, Hub, Unreached
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused
from workers.spaces.client import Call, Failed, Full, Gave, Lost, Told
from workers.spaces.results import kept

_LOOK: Final = timedelta(seconds=10)
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_LARGEST: Final = 32 * 1024 * 1024
"""Bytes of all the files that go along with a call."""
_GOODBYE: Final = 2.0
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_TAG: Final = re.compile(r"<[^<>]{0,500}>")
_QUOTA: Final = re.compile(r"GPU quota|quota exceeded", re.IGNORECASE)
_FILE: Final = {"_type": "gradio.FileData"}
_UNDONE: Final = (
    *(Mismatch, Broken, Shut, Full),
    *(FetchRefused, FetchFailed, Unreached, Ambiguous, Answered4xx),
)
_Undone = (
    Mismatch
    | Broken
    | Shut
    | Full
    | FetchRefused
    | FetchFailed
    | Unreached
    | Ambiguous
    | Answered4xx
)


class SpaceExecutor:
    """Calls endpoints of Gradio Spaces."""

    kind = JobKind.SPACE_CALL
    is_call = True
    resumes = False
    slots = 16

    def __init__(self, hub: Hub, spaces_url: str, fetcher: Fetcher) -> None:
        self._hub = hub
        self._spaces_url = spaces_url
        self._fetcher = fetcher

    async def execute(self, order: Order) -> Outcome:
        """Make the call, once, and wait for its end."""
        try:
            spec = SpaceCallSpec.model_validate(order.spec)
        except ValidationError as error:
            return outgrown(error)
        try:
            return await self._call(order, spec)
        except _UNDONE as error:
            return _undone(f"The Space {spec.space}", error)
        except Lost as lost:
            return Unclear(f"The Space {spec.space} did not say how it went: {lost}.")

    async def _call(self, order: Order, spec: SpaceCallSpec) -> Outcome:
        deadline = anyio.current_time() + spec.timeout.total_seconds()
        space = await self._find(order, spec)
        async with door(space.url(self._spaces_url), order.token) as session:
            ready: tuple[Call, Endpoint, list[Any]] | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                ready = await self._ready(order, spec, space, session)
            if ready is None:
                return Refused(
                    Reason.HUB_UNAVAILABLE,
                    f"The Space {spec.space} was not ready within {say(spec.timeout)}; nothing was "
                    f"started.",
                )
            call, endpoint, values = ready
            over: Gave | Failed | None = None
            with anyio.move_on_after(deadline - anyio.current_time()):
                over = await _follow(order, call, values)
            if over is None:
                return _ended(
                    Reason.TIMED_OUT,
                    f"It was still waiting or running after {say(spec.timeout)}, and was told to "
                    f"stop.",
                )
            if isinstance(over, Failed):
                return _failed(spec, over)
            return await _succeeded(spec, call, endpoint, over)

    async def _ready(
        self, order: Order, spec: SpaceCallSpec, space: Space, session: httpx2.AsyncClient
    ) -> tuple[Call, Endpoint, list[Any]]:
        """Do all that comes before its queue."""
        app = await self._awake(order, spec, space, session)
        endpoint = app.endpoint(spec.api_name)
        call = Call(session, app.prefix, endpoint)
        return call, endpoint, await self._hand_over(call, endpoint.bind(spec.arguments))

    async def _find(self, order: Order, spec: SpaceCallSpec) -> Space:
        url = f"{self._hub.url}/api/spaces/{spec.space}"
        answer = await self._hub.send("GET", url, order.token, within=_LOOK)
        space = read_space(answer.content)
        space.expect_alive()
        return space

    async def _awake(
        self, order: Order, spec: SpaceCallSpec, space: Space, session: httpx2.AsyncClient
    ) -> Interface:
        """Wait for the app to say what it takes; that it is asked wakes it."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await interface(session)
            except Mismatch:
                # While it comes up, what answers is a page of the Hub's.
                if space.coming is None:
                    raise
            except Shut as shut:
                if shut.status is not None and _is_final(shut.status):
                    raise
            state = space.coming or "does not answer yet"
            order.report(Progress(message=f"The Space {state}; waiting for it to wake"))
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            space = await self._find(order, spec)

    async def _hand_over(self, call: Call, values: list[Any]) -> list[Any]:
        """Replace each file by what the app calls it."""
        left = _LARGEST

        async def placed(value: Any) -> Any:
            nonlocal left
            if isinstance(value, GivenFile):
                content = value.content
                if content is None:
                    content = await self._fetched(value.url or "", left)
                left -= len(content)
                if left < 0:
                    raise Mismatch(f"is given more than {_LARGEST:,} bytes in files.")
                path = await call.upload(value.name, content)
                return {"path": path, "orig_name": value.name, "meta": _FILE}
            if isinstance(value, list):
                return [await placed(each) for each in cast("list[object]", value)]
            if isinstance(value, dict):
                named = cast("dict[str, object]", value)
                return {name: await placed(each) for name, each in named.items()}
            return value

        return [await placed(value) for value in values]

    async def _fetched(self, url: str, most: int) -> bytes:
        within = timedelta(minutes=1)
        async with self._fetcher.open(url, limit_bytes=max(most, 1), within=within) as body:
            return b"".join([part async for part in body.chunks()])


def executor(means: Means) -> Executor:
    """Make this executor."""
    return SpaceExecutor(means.hub, means.settings.spaces_url, Fetcher())


async def _follow(order: Order, call: Call, values: list[Any]) -> Gave | Failed:
    """See a call to its end; whatever keeps us from that, the app is told to stop."""
    if (refused := await call.join(values)) is not None:
        return refused
    over = False
    try:
        async with aclosing(call.follow()) as told:
            async for each in told:
                if not isinstance(each, Told):
                    over = True
                    return each
                order.report(Progress(each.done, each.total, each.message))
        raise Lost("it broke off")
    finally:
        if not over:
            with anyio.move_on_after(_GOODBYE, shield=True):
                await _tell_to_stop(call)


async def _tell_to_stop(call: Call) -> None:
    try:
        await call.cancel()
    except Shut:
        # With the stream that breaks off it learns of it too.
        return


async def _succeeded(spec: SpaceCallSpec, call: Call, endpoint: Endpoint, gave: Gave) -> Answered:
    outputs, files = await kept(call, endpoint.results(gave.values))
    result = {"space": spec.space, "api_name": endpoint.name, **outputs}
    return Answered(Ending(JobState.SUCCEEDED, "ANSWERED", result=result), files)


def _failed(spec: SpaceCallSpec, failed: Failed) -> Answered:
    said = " ".join(_TAG.sub("", failed.message or "").split())
    reason = Reason.INSUFFICIENT_CREDITS if _QUOTA.search(said) else Reason.EXIT_NONZERO
    told = f"said: {said}" if said else "ended the call with an error, and keeps it to itself."
    return _ended(reason, f"The Space {spec.space} {told}")


def _ended(reason: Reason, message: str) -> Answered:
    return Answered(Ending(JobState.FAILED, "FAILED", reason, message))


def _is_final(status: int) -> bool:
    return status < _SERVER_ERROR and status != _TOO_MANY


def _undone(the_space: str, error: _Undone) -> Outcome:  # noqa: PLR0911  # one for each cause
    """Say what came between, before anything was begun."""
    match error:
        case Mismatch() | FetchRefused():
            return Refused(Reason.INVALID_REQUEST, f"{the_space} {error}")
        case Broken():
            return Refused(Reason.HUB_UNAVAILABLE, f"{the_space} {error}")
        case Full():
            return Later(f"{the_space} has no room in its queue.")
        case Shut(status=status) if status is not None and _is_final(status):
            return Refused(Reason.MISSING_PERMISSION, f"{the_space} cannot be called: {error}.")
        case Answered4xx(status=status) if status == _NOT_FOUND:
            unseen = f"{the_space} does not exist, or your token may not see it."
            return Refused(Reason.INVALID_REQUEST, unseen)
        case Answered4xx():
            return trouble(error)
        case Shut():
            return Later(f"{the_space} cannot be called: {error}.")
        case FetchFailed() | Unreached() | Ambiguous():
            return Later(str(error))
        case _:
            assert_never(error)
