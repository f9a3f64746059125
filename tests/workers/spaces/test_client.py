"""Calls of a real Gradio app, through a proxy that does what that of the Hub's Spaces does."""

import importlib
import json
from base64 import b64encode
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import anyio.to_thread
import psutil
import pytest

from schema.accounts.vault import Secret
from schema.hub.gradio_client import fetch_api, open_space_session
from schema.hub.url_fetcher import Fetcher
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from service.local.hub_emulator.spaces.routes import PAUSED_SPACE, PUBLIC_SPACE, SPACE_PROXY_PATH
from service.local.hub_emulator.users import LocalUser, find_user, load_users
from service.local.stack import Stack
from tests.support.polling import eventually
from workers.artifacts.redaction import Redactor
from workers.executor import Completed, ExecutionRequest, Outcome, Rejected, RetryLater
from workers.executors.space import SpaceExecutor
from workers.hub.client import open_hub_jobs_client

pytestmark = [
    pytest.mark.xdist_group("stack"),
]

GradioClient: Any = importlib.import_module("gradio_client").Client


@dataclass
class SpaceCaller:
    """Calls a Space as one person after another, and remembers what was said meanwhile."""

    executor: SpaceExecutor
    users: list[LocalUser]
    progress_messages: list[JobProgress] = field(default_factory=list[JobProgress])
    partial_texts: list[str] = field(default_factory=list[str])
    """What was yielded last at each of the messages, if anything."""

    def make_request(
        self, api_name: str | None, arguments: Any, who: str, **more: Any
    ) -> ExecutionRequest:
        spec = {"space": PUBLIC_SPACE, "api_name": api_name, "arguments": arguments, **more}
        token = Secret(find_user(self.users, who).token)
        return ExecutionRequest(
            run_id=uuid4(),
            job_id=uuid4(),
            namespace=who,
            spec=spec,
            labels={},
            token=token,
            secrets={},
            request_timeout=timedelta(seconds=10),
            report_progress=self.report_progress,
        )

    def report_progress(self, progress: JobProgress) -> None:
        self.progress_messages.append(progress)
        text = progress.render_partial and progress.render_partial(Redactor({}))
        if text is not None:
            self.partial_texts.append(text)

    async def __call__(self, api_name: str | None, arguments: Any, **more: Any) -> Outcome:
        """Make one call; the sentences before are forgotten."""
        self.progress_messages.clear()
        self.partial_texts.clear()
        who = more.pop("who", "alice")
        return await self.executor.execute(self.make_request(api_name, arguments, who, **more))

    async def call_for_values(self, api_name: str, arguments: Any, **more: Any) -> list[Any]:
        """Make a call that is answered."""
        outcome = await self(api_name, arguments, **more)
        assert isinstance(outcome, Completed), outcome
        assert outcome.run_result.result is not None, outcome
        return [each["value"] for each in outcome.run_result.result["outputs"]]

    async def read_count(self, name: str) -> int:
        """Ask the Space how far a count has come."""
        [number] = await self.call_for_values("/reached", [name])
        return int(number)


@pytest.fixture
async def call_space(stack: Stack, space_url: str) -> AsyncGenerator[SpaceCaller]:
    async with open_hub_jobs_client(stack.hub_url, stack.hub_url) as gateway:
        form = f"{stack.hub_url}{SPACE_PROXY_PATH}/{{subdomain}}"
        yield SpaceCaller(SpaceExecutor(gateway, form, Fetcher()), load_users(stack.folder / "hub"))


@pytest.mark.parametrize(
    ("api_name", "arguments", "values"),
    [
        ("/echo", {"text": "ab", "times": 2}, ["abab"]),
        ("echo", ["ab", 2], ["abab"]),
        ("/echo", {"text": "ab"}, ["ab"]),
        # Of the two values this takes and gives, one is Gradio's own.
        ("/remember", ["x"], ["x 0"]),
        # What a generator gives last is what it gave.
        ("/count", ["counted", 3, 0], ["1 2 3"]),
    ],
)
async def test_a_call_means_what_the_app_says_it_takes(
    call_space: SpaceCaller, api_name: str, arguments: Any, values: list[Any]
) -> None:
    """By name or by place, defaults filled in: the caller sees none of Gradio's bookkeeping."""
    assert await call_space.call_for_values(api_name, arguments) == values


async def test_what_the_official_client_sees_and_gets_is_what_we_do(
    call_space: SpaceCaller, stack: Stack, space_url: str
) -> None:
    """The library that Gradio's people write is the judge of what their protocol means."""
    token = find_user(load_users(stack.folder / "hub"), "alice").token

    def ask() -> tuple[dict[str, Any], list[Any]]:
        client = GradioClient(f"{space_url}/", token=token, verbose=False, analytics_enabled=False)
        try:
            seen: Any = client.view_api(print_info=False, return_format="dict")
            values = [client.predict("ab", 2, api_name="/echo")]
            values += [client.predict("counted", 3, 0, api_name="/count")]
            values += [client.predict("x", api_name="/remember")]
            return dict(seen["named_endpoints"]), values
        finally:
            client.close()

    described, values = await anyio.to_thread.run_sync(ask)
    async with open_space_session(space_url, None) as session:
        ours = (await fetch_api(session)).endpoints

    assert {
        name: [
            (each["parameter_name"], each["parameter_has_default"])
            for each in description["parameters"]
        ]
        for name, description in described.items()
    } == {
        name: [(each.name, each.optional) for each in endpoint.parameters]
        for name, endpoint in ours.items()
    }
    assert values == [
        *await call_space.call_for_values("/echo", ["ab", 2]),
        *await call_space.call_for_values("/count", ["counted", 3, 0]),
        *await call_space.call_for_values("/remember", ["x"]),
    ]


async def test_whoever_waits_is_told_the_place_in_the_queue_and_how_far_it_is(
    call_space: SpaceCaller,
) -> None:
    """What Gradio's own page shows while somebody waits is passed on.

    Gradio looks at the progress bar at intervals of its own: a busy server leaves steps out.
    """
    await call_space.call_for_values("/work", [3, 0.2])

    progress = [(each.done, each.total, each.message) for each in call_space.progress_messages]
    assert str(progress[0][2]).startswith("Waiting in the Space's queue: number 1 of 1")
    steps = [done or 0 for done, total, message in progress if (total, message) == (3, "Working")]
    assert steps
    assert set(steps) <= {0, 1, 2, 3}
    assert steps == sorted(steps)


async def test_what_a_function_yields_is_shown_before_it_ends(call_space: SpaceCaller) -> None:
    """Gradio sends the first value whole, and then edits of it; people see values."""
    await call_space.call_for_values("/count", ["shown", 4, 0])

    assert call_space.partial_texts == ["1", "1 2", "1 2 3", "1 2 3 4"]

    [result] = await call_space.call_for_values("/grow", [2])
    objects = [json.loads(text) for text in call_space.partial_texts]
    assert objects == [
        {"names": ["a"], "last": 1},
        {"names": ["a", "aa"], "last": 2},
        {"names": ["aa"]},
    ]
    assert result == objects[-1]


async def test_files_go_there_and_come_back(call_space: SpaceCaller) -> None:
    """By their bytes: no path of this machine is read, and what comes back is kept by the job."""
    outcome = await call_space(
        "/upper", [{"base64": b64encode(b"hello").decode(), "name": "a b.txt"}]
    )

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result is not None
    assert outcome.run_result.result["outputs"][0]["value"] == {"file": "upper.txt"}
    [file] = outcome.files
    assert (file.name, file.content, file.media_type) == ("upper.txt", b"HELLO", "text/plain")


async def test_a_result_too_long_to_be_shown_is_a_file(call_space: SpaceCaller) -> None:
    """Nothing that was computed is thrown away for being long."""
    outcome = await call_space("/large", [100_000])

    assert isinstance(outcome, Completed)
    assert outcome.run_result.result == {
        "space": PUBLIC_SPACE,
        "api_name": "/large",
        "outputs": None,
        "outputs_file": "outputs.json",
    }
    [file] = outcome.files
    assert json.loads(file.content or b"")[0]["value"] == "x" * 100_000


async def test_the_code_of_a_space_never_sees_a_token(call_space: SpaceCaller) -> None:
    """Whoever makes a Space reads its requests; theirs is not the caller's authority."""
    [headers] = await call_space.call_for_values("/seen", [], space="alice/own")

    assert {"authorization", "x-hf-authorization", "cookie"}.isdisjoint(headers)
    assert "user-agent" in headers


@pytest.mark.parametrize(
    ("api_name", "reason", "message"),
    [
        ("/fail", Reason.EXIT_NONZERO, "The Space local/tiny said: That will not do: 7"),
        (
            "/crash",
            Reason.EXIT_NONZERO,
            "The Space local/tiny ended the call with an error, and gave no reason.",
        ),
        (
            "/quota",
            Reason.INSUFFICIENT_CREDITS,
            (
                "The Space local/tiny said: ZeroGPU quota exceeded: You have exceeded your free "
                "GPU quota (7s requested vs. 12s left). Try again in 2:05:11 or subscribe."
            ),
        ),
    ],
)
async def test_an_error_of_the_app_is_told_in_its_own_words(
    call_space: SpaceCaller, api_name: str, reason: Reason, message: str
) -> None:
    """And a quota that is used up by its name, with when it comes back."""
    outcome = await call_space(api_name, [7])

    assert outcome == Completed(RunResult(JobState.FAILED, "FAILED", reason, message))


@pytest.mark.parametrize(
    ("api_name", "arguments", "more", "reason", "message"),
    [
        ("/ecco", [], {}, Reason.INVALID_REQUEST, "has no endpoint /ecco. Did you mean /echo"),
        ("/echo", {"txt": 1}, {}, Reason.INVALID_REQUEST, "has no parameter 'txt'."),
        ("/echo", {}, {}, Reason.INVALID_REQUEST, "needs text too."),
        ("/echo", ["a", 1, 2], {}, Reason.INVALID_REQUEST, "takes 2 arguments, not 3."),
        ("/echo", ["a", "b"], {}, Reason.INVALID_REQUEST, 'takes a number as times, not "b".'),
        (
            "/upper",
            ["/etc/passwd"],
            {},
            Reason.INVALID_REQUEST,
            "is not an https:// or hf:// address",
        ),
        ("/upper", [{"base64": "?"}], {}, Reason.INVALID_REQUEST, "its base64 cannot be read"),
        ("/upper", ["https://127.0.0.1/a.txt"], {}, Reason.INVALID_REQUEST, "public"),
        ("/echo", ["a"], {"space": "no/where"}, Reason.INVALID_REQUEST, "does not exist, or your"),
        ("/echo", ["a"], {"space": "bob/own"}, Reason.INVALID_REQUEST, "does not exist, or your"),
        (
            "/echo",
            ["a"],
            {"space": PAUSED_SPACE},
            Reason.HUB_UNAVAILABLE,
            "was paused by its owner.",
        ),
    ],
)
async def test_what_cannot_be_called_is_refused_before_anything_is_begun(
    call_space: SpaceCaller, api_name: str, arguments: Any, more: Any, reason: Reason, message: str
) -> None:
    """Refused, not failed: provably nothing ran, and nothing of it is in doubt."""
    outcome = await call_space(api_name, arguments, **more)

    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert message in outcome.message


async def test_a_call_that_is_dropped_stops_at_the_space(call_space: SpaceCaller) -> None:
    """A cancel frees what it would have gone on using: the Space is told, and is seen to stop."""

    async def has_begun() -> bool:
        return any("partial" in (each.message or "") for each in call_space.progress_messages)

    order = call_space.make_request("/count", ["dropped", 1000, 0.05], "alice")
    async with anyio.create_task_group() as group:
        group.start_soon(call_space.executor.execute, order)
        await eventually(has_begun, bool)
        group.cancel_scope.cancel()

    before = await call_space.read_count("dropped")
    await call_space.call_for_values("/work", [3, 0.1])
    assert await call_space.read_count("dropped") <= before + 1


async def test_a_call_that_outlives_its_timeout_is_told_to_stop(call_space: SpaceCaller) -> None:
    """The deadline is the caller's, and covers the queue too."""
    outcome = await call_space("/count", ["late", 1000, 0.05], timeout=1)
    before = await call_space.read_count("late")
    await call_space.call_for_values("/work", [3, 0.1])

    assert isinstance(outcome, Completed)
    assert outcome.run_result.reason is Reason.TIMED_OUT
    assert 1 < before < 100
    assert await call_space.read_count("late") <= before + 1


async def test_a_full_queue_is_waited_for(call_space: SpaceCaller) -> None:
    """Provably not taken up, so it is tried again later and not given up."""
    outcomes: list[Outcome] = []

    async def one() -> None:
        outcomes.append(
            await call_space.executor.execute(call_space.make_request("/work", [1, 0.5], "alice"))
        )

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(one)

    turned_away = [each for each in outcomes if isinstance(each, RetryLater)]
    assert 0 < len(turned_away) < 6
    assert {each.message for each in turned_away} == {
        "The Space local/tiny has no room in its queue."
    }


async def test_an_awake_space_that_nobody_calls_rests(space_url: str) -> None:
    """Gradio by itself looks for calls every millisecond, for as long as `up` runs."""
    (app,) = [
        child
        for child in psutil.Process().children(recursive=True)
        if any(argument.endswith("/demo_app.py") for argument in child.cmdline())
    ]
    before = app.num_ctx_switches().voluntary

    await anyio.sleep(0.5)  # the stretch of time that is measured

    assert app.num_ctx_switches().voluntary - before < 200
