"""Server-sent events to one browser: until it goes, the process stops, or its time is over.

A browser connects again by itself. That checks its session anew, and refreshes the token of its
person before that expires.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from schema.common.errors import HoldfastError
from service.http.pages.rendering import PAGE_HEADERS, render_template
from service.runtime.wait_slots import WaitSlots

STREAM_LIFETIME: Final = timedelta(minutes=5)
_RETRY: Final = "retry: 2000\n\n"
"""How many milliseconds a browser waits before it connects again."""

WriteEvent = Callable[[str], Awaitable[None]]

log = structlog.stdlib.get_logger()


class EventStream(Response):
    """The answer to a browser that follows something."""

    def __init__(
        self,
        follow: Callable[[WriteEvent], Awaitable[None]],
        wait_slots: WaitSlots,
        subject_id: str,
    ) -> None:
        """Prepare the answer.

        Args:
            follow: writes events for as long as it is let.
            wait_slots: of which each stream takes one, as each wait does.
            subject_id: whose stream it is.
        """
        super().__init__(
            headers={
                **PAGE_HEADERS,
                "content-type": "text/event-stream; charset=utf-8",
                "x-accel-buffering": "no",
            }
        )
        del self.headers["content-length"]
        self._follow = follow
        self._wait_slots = wait_slots
        self._subject_id = subject_id

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        async with anyio.create_task_group() as tasks:

            async def stop_when_the_browser_goes() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            tasks.start_soon(stop_when_the_browser_goes)
            await write(_RETRY)
            try:
                async with self._wait_slots.acquire(self._subject_id, duration=STREAM_LIFETIME):
                    with anyio.move_on_after(STREAM_LIFETIME.total_seconds()):
                        await self._follow(write)
            except HoldfastError as error:
                log.info("events.ended", error=type(error).__name__)  # it connects again
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()


def format_event(name: str, template: str, **context: Any) -> str:
    """Write an event whose data are HTML.

    Args:
        name: by which the page knows what to replace.
        template: of the HTML.
        context: what the template shows.
    """
    lines = render_template(template, **context).splitlines()
    return "".join([f"event: {name}\n", *(f"data: {line}\n" for line in lines), "\n"])
