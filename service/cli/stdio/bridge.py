"""The bridge between a client on standard input and output and a service behind a URL.

    stdin ─▶ line ─▶ a task for each message ─▶ POST ─▶ JSON, or events ─▶ stdout

Messages run side by side, as over HTTP. A cancellation ends the POST of its request, which is how
the service hears of it. Nothing that fails ends the bridge: it answers with an error and goes on.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from service.cli.stdio.messages import (
    CANCELLATION,
    INVALID_REQUEST,
    ClientMessage,
    MalformedMessage,
    RequestId,
    ServerMessage,
    build_error,
    parse_client_message,
)
from service.cli.stdio.service_client import Deliver, ExchangeFailed, ServiceClient
from service.cli.stdio.streams import MAX_LINE_BYTES, ClientLine

_TOO_LONG = (
    f"A message has at most {MAX_LINE_BYTES // 1024**2} MiB, and this line is longer. "
    f"Send less at a time; a file goes with upload_file."
)


class LocalTools(Protocol):
    """Tools that the bridge itself has, beside those of the service."""

    def add_to_list(self, answer: ServerMessage) -> ServerMessage:
        """Return an answer to `tools/list` with the tools that are added."""
        ...

    def has_tool(self, message: ClientMessage) -> bool:
        """Say whether a message calls one of them."""
        ...

    async def call_tool(self, message: ClientMessage, deliver: Deliver) -> None:
        """Carry a call out, and deliver its answer."""
        ...


class Bridge:
    """Takes messages from a client, and brings it the answers."""

    def __init__(
        self,
        service: ServiceClient,
        write_line: Callable[[bytes], Awaitable[None]],
        report: Callable[[str], None],
        tools: LocalTools | None = None,
    ) -> None:
        """Prepare a bridge.

        Args:
            service: what answers.
            write_line: writes a line to the client.
            report: is told what the client is not.
            tools: those that the bridge itself has.
        """
        self._service = service
        self._write_line = write_line
        self._report = report
        self._tools = tools
        self._open: dict[str, anyio.CancelScope] = {}

    async def run(self, lines: AsyncIterator[ClientLine]) -> None:
        """Answer until the lines end; what is open then is not waited for."""
        async with anyio.create_task_group() as tasks:
            async for line in lines:
                await self._take_line(line, tasks)
            tasks.cancel_scope.cancel()

    async def _take_line(self, line: ClientLine, tasks: TaskGroup) -> None:
        if line is None:
            await self._deliver(build_error(None, INVALID_REQUEST, _TOO_LONG))
            return
        if not line.strip():
            return
        try:
            message = parse_client_message(line)
        except MalformedMessage as error:
            await self._deliver(build_error(None, error.code, str(error)))
            return
        if message.method == CANCELLATION:
            self._cancel(message)
            return
        scope = anyio.CancelScope()
        if message.request_id is not None:
            # Before its task runs: the next line may cancel it.
            self._open[_key(message.request_id)] = scope
        tasks.start_soon(self._answer, message, scope)

    def _cancel(self, cancellation: ClientMessage) -> None:
        # Not posted. The service keeps no sessions, so it could not find the request.
        request_id = cancellation.params.get("requestId")
        if isinstance(request_id, str | int | float):
            scope = self._open.pop(_key(request_id), None)
            if scope is not None:
                scope.cancel()

    async def _answer(self, message: ClientMessage, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._exchange(message)
            except ExchangeFailed as error:
                await self._fail(message, error)
            except Exception as error:  # noqa: BLE001  # the other requests go on
                self._report(f"{message.method}: {error!r}")
                failure = ExchangeFailed(
                    f"The bridge failed at this ({type(error).__name__}); its log has more. "
                    f"Look whether it was carried out before you call again.",
                    code="bridge_failed",
                )
                await self._fail(message, failure)
        if message.request_id is not None and self._open.get(_key(message.request_id)) is scope:
            del self._open[_key(message.request_id)]

    async def _exchange(self, message: ClientMessage) -> None:
        if self._tools is None:
            await self._service.exchange(message, self._deliver)
        elif self._tools.has_tool(message):
            await self._tools.call_tool(message, self._deliver)
        elif message.method == "tools/list":
            tools = self._tools

            async def deliver_with_tools(sent: ServerMessage) -> None:
                await self._deliver(tools.add_to_list(sent) if sent.is_answer else sent)

            await self._service.exchange(message, deliver_with_tools)
        else:
            await self._service.exchange(message, self._deliver)

    async def _fail(self, message: ClientMessage, failure: ExchangeFailed) -> None:
        self._report(f"{message.method or 'a message'}: {failure}")
        if message.has_answer:
            await self._deliver(failure.build_answer(message))

    async def _deliver(self, sent: ServerMessage) -> None:
        await self._write_line(sent.line.encode("utf-8", "replace") + b"\n")


def _key(request_id: RequestId) -> str:
    # "1" and 1 are two ids.
    return json.dumps(request_id)
