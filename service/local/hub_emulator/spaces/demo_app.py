"""The Gradio app behind every Space of the emulated Hub, as a program of its own.

It prints the port that it listens on, and ends when its standard input is closed; the kernel closes
it if the Hub is killed. Gradio is not a dependency of the project, so it is imported by name.
"""

import asyncio
import importlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import uvicorn

gradio: Any = importlib.import_module("gradio")

_POLL_SECONDS = 0.02
"""How often the app looks for new calls. Gradio 6 does so every millisecond."""
_counts: dict[str, int] = {}
"""The last number of each count, by the name that the caller has given to it."""


def echo(text: str, times: float) -> str:
    """Repeat a text."""
    return text * int(times)


def work(steps: float, pause: float, progress: Any = None) -> str:
    """Take some time, and report the progress."""
    tracked: Iterable[int] = progress.tqdm(range(int(steps)), desc="Working")
    for _ in tracked:
        time.sleep(pause)
    return "done"


def count(name: str, upto: float, pause: float) -> Generator[str]:
    """Yield one result after the other; `reached` returns the last number."""
    for number in range(1, int(upto) + 1):
        _counts[name] = number
        yield " ".join(map(str, range(1, number + 1)))
        time.sleep(pause)


def grow(upto: float) -> Generator[dict[str, Any]]:
    """Yield a list that grows, and then one that is shorter."""
    names: list[str] = []
    for number in range(1, int(upto) + 1):
        names.append("a" * number)
        yield {"names": names, "last": number}
    yield {"names": names[1:]}


def get_count(name: str) -> int:
    """Return the last number of a count."""
    return _counts.get(name, 0)


def upper(document: str) -> str:
    """Return a document in capital letters."""
    path = Path(tempfile.mkdtemp()) / "upper.txt"
    path.write_text(Path(document).read_text(encoding="utf-8").upper(), encoding="utf-8")
    return str(path)


def fail(text: str) -> str:
    """Raise an error that is meant for the user."""
    raise gradio.Error(f"That will not do: {text}")


def crash(text: str) -> str:
    """Raise an error that is a bug."""
    raise RuntimeError(text)


def raise_quota_error(seconds: float) -> str:
    """Raise the error of ZeroGPU for a user whose daily quota is used up."""
    raise gradio.Error(
        f"You have exceeded your free GPU quota ({seconds:.0f}s requested vs. 12s left). "
        'Try again in 2:05:11 or <a href="https://huggingface.co/pricing">subscribe</a>.',
        title="ZeroGPU quota exceeded",
    )


def list_request_headers(request: Any) -> list[str]:
    """Return the names of the request's headers that have reached the app."""
    return sorted(request.headers.keys())


def make_large_text(size: float) -> str:
    """Return a long text."""
    return "x" * int(size)


def count_session_calls(calls: int, text: str) -> tuple[int, str]:
    """Count the calls of a session in its state."""
    return calls + 1, f"{text} {calls}"


def build_app() -> Any:
    """Build the app."""
    work.__defaults__ = (gradio.Progress(),)
    list_request_headers.__annotations__["request"] = gradio.Request
    text, number = gradio.Textbox, gradio.Number
    with gradio.Blocks(analytics_enabled=False) as app:
        calls = gradio.State(0)
        texts = [text(label="Text"), text(label="Name"), text(label="Answer")]
        numbers = [
            number(1, label=label) for label in ("Times", "Steps", "Pause", "Upto", "Seconds")
        ]
        words, name, answer = texts
        times, steps, pause, upto, seconds = numbers
        document, capitals = gradio.File(label="Document"), gradio.File(label="Capitals")
        headers = gradio.JSON(label="Headers")
        on_click = gradio.Button().click
        on_click(echo, [words, times], answer, api_name="echo")
        on_click(work, [steps, pause], answer, api_name="work", concurrency_limit=1)
        on_click(count, [name, upto, pause], answer, api_name="count")
        on_click(grow, upto, headers, api_name="grow")
        on_click(get_count, name, number(label="Reached"), api_name="reached")
        on_click(upper, document, capitals, api_name="upper")
        on_click(fail, words, answer, api_name="fail")
        on_click(crash, words, answer, api_name="crash")
        on_click(raise_quota_error, seconds, answer, api_name="quota")
        on_click(list_request_headers, None, headers, api_name="seen")
        on_click(make_large_text, times, answer, api_name="large")
        # Gradio keeps the state itself: a caller neither sends nor receives it.
        on_click(count_session_calls, [calls, words], [calls, answer], api_name="remember")
    return app


async def serve_app() -> None:
    """Serve the app until the process is ended."""
    fastapi: Any = importlib.import_module("fastapi")
    blocks = build_app().queue(max_size=3)
    blocks._queue.sleep_when_free = _POLL_SECONDS  # noqa: SLF001  # no argument sets it
    app = gradio.mount_gradio_app(fastapi.FastAPI(), blocks, path="/", show_error=False)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.05)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await serving


def _exit_on_pipe_close() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_exit_on_pipe_close, daemon=True).start()
    asyncio.run(serve_app())
