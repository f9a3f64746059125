"""A tiny Gradio app, run as a program of its own: what every Space of the local Hub is.

It writes the port it answers on, and ends when its standard input is closed, which the kernel does
if the Hub is killed. Gradio is no dependency of ours: it is looked for when this is run.
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

_counts: dict[str, int] = {}
"""How far a count has come, by the name its caller gave it."""


def echo(text: str, times: float) -> str:
    """Say a text so many times."""
    return text * int(times)


def work(steps: float, pause: float, progress: Any = None) -> str:
    """Take a while, and say how far it is."""
    every: Iterable[int] = progress.tqdm(range(int(steps)), desc="Working")
    for _ in every:
        time.sleep(pause)
    return "done"


def count(name: str, upto: float, pause: float) -> Generator[str]:
    """Give one result after the other; `reached` tells how far it came."""
    for number in range(1, int(upto) + 1):
        _counts[name] = number
        yield " ".join(map(str, range(1, number + 1)))
        time.sleep(pause)


def get_count(name: str) -> int:
    """Tell how far a count has come."""
    return _counts.get(name, 0)


def upper(document: str) -> str:
    """Give a document back in capital letters."""
    written = Path(tempfile.mkdtemp()) / "upper.txt"
    written.write_text(Path(document).read_text(encoding="utf-8").upper(), encoding="utf-8")
    return str(written)


def fail(text: str) -> str:
    """Refuse whatever is given."""
    raise gradio.Error(f"That will not do: {text}")


def crash(text: str) -> str:
    """Have a bug."""
    raise RuntimeError(text)


def raise_quota_error(seconds: float) -> str:
    """Say what ZeroGPU says to somebody who has used up their share of a day."""
    raise gradio.Error(
        f"You have exceeded your free GPU quota ({seconds:.0f}s requested vs. 12s left). "
        'Try again in 2:05:11 or <a href="https://huggingface.co/pricing">subscribe</a>.',
        title="ZeroGPU quota exceeded",
    )


def list_request_headers(request: Any) -> list[str]:
    """Tell which headers of the request have come as far as here."""
    return sorted(request.headers.keys())


def make_large_text(size: float) -> str:
    """Give a long text."""
    return "x" * int(size)


def count_session_calls(calls: int, text: str) -> tuple[int, str]:
    """Count the calls of a session."""
    return calls + 1, f"{text} {calls}"


def build_app() -> Any:
    """Put the app together."""
    work.__defaults__ = (gradio.Progress(),)
    list_request_headers.__annotations__["request"] = gradio.Request
    text, number = gradio.Textbox, gradio.Number
    with gradio.Blocks(analytics_enabled=False) as app:
        calls = gradio.State(0)
        named = [text(label="Text"), text(label="Name"), text(label="Answer")]
        numbers = [
            number(1, label=label) for label in ("Times", "Steps", "Pause", "Upto", "Seconds")
        ]
        words, name, answer = named
        times, steps, pause, upto, seconds = numbers
        document, capitals = gradio.File(label="Document"), gradio.File(label="Capitals")
        listed = gradio.JSON(label="Headers")
        press = gradio.Button().click
        press(echo, [words, times], answer, api_name="echo")
        press(work, [steps, pause], answer, api_name="work", concurrency_limit=1)
        press(count, [name, upto, pause], answer, api_name="count")
        press(get_count, name, number(label="Reached"), api_name="reached")
        press(upper, document, capitals, api_name="upper")
        press(fail, words, answer, api_name="fail")
        press(crash, words, answer, api_name="crash")
        press(raise_quota_error, seconds, answer, api_name="quota")
        press(list_request_headers, None, listed, api_name="seen")
        press(make_large_text, times, answer, api_name="large")
        # State is Gradio's own: nobody who calls passes it, or gets it.
        press(count_session_calls, [calls, words], [calls, answer], api_name="remember")
    return app


async def serve_app() -> None:
    """Answer until nobody holds the other end of the pipe."""
    fastapi: Any = importlib.import_module("fastapi")
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(), build_app().queue(max_size=3), path="/", show_error=False
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody when it is up
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
