"""The tool `upload_file`: a file of this machine becomes a handle of the service.

    path ─▶ open it ─▶ create_upload of the service ─▶ PUT in pieces ─▶ upload_id

The service has the tool `create_upload`, and only a program on the person's machine can read the
file. It is sent only to where the calls of the bridge go. Its bytes are never in memory as a whole.
"""

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import anyio.to_thread
import httpx2

from schema.common.http import loopback_aliases, read_bounded
from service.cli.stdio.messages import (
    ClientMessage,
    RequestId,
    ServerMessage,
    build_client_message,
    build_server_message,
    read_object,
)
from service.cli.stdio.service_client import Deliver, ServiceClient, Target
from service.cli.stdio.shared_folders import FileRefused, SharedFile, SharedFolders

TOOL_NAME: Final = "upload_file"
_LINK_TOOL: Final = "create_upload"
_PIECE_BYTES: Final = 256 * 1024
_MAX_REPLY_BYTES: Final = 64 * 1024
_MAX_REFUSAL_CHARS: Final = 500
_PROGRESS_STEPS: Final = 50
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_OWN_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "authorization", "cookie"}
)
"""What the bridge decides about a request, and the service does not."""
_ARGUMENTS: Final[dict[str, Any]] = {
    "path": {"type": "string", "description": "Whole, or inside one of the folders."},
    "media_type": {"type": "string", "description": "Refuse bytes that are seen to be another."},
    "workspace_id": {"type": "string"},
}
_RESULT: Final[dict[str, Any]] = {
    "upload_id": {"type": "string"},
    "name": {"type": "string"},
    "size_bytes": {"type": "integer"},
    "media_type": {"type": "string"},
    "sha256": {"type": "string"},
    "expires_at": {"type": "string"},
}


class UploadFailed(Exception):
    """The service has not taken the file; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Link:
    """Where the service takes one file."""

    url: str
    headers: dict[str, str]


class FileUpload:
    """The tool, and the folders that it may send from."""

    def __init__(self, folders: SharedFolders, service: ServiceClient) -> None:
        self._folders = folders
        self._service = service
        self._numbers = count(1)

    def add_to_list(self, answer: ServerMessage) -> ServerMessage:
        """Return the list of tools with this one, if the list has what it needs."""
        fields = read_object(answer.fields)
        result = read_object(fields.get("result"))
        tools: list[object] = result.get("tools") or []
        if _LINK_TOOL not in [read_object(tool).get("name") for tool in tools]:
            return answer
        return build_server_message(
            {**fields, "result": {**result, "tools": [*tools, self._describe()]}}
        )

    def has_tool(self, message: ClientMessage) -> bool:
        """Say whether a message calls this tool."""
        return message.method == "tools/call" and message.params.get("name") == TOOL_NAME

    async def call_tool(self, message: ClientMessage, deliver: Deliver) -> None:
        """Send the file that a call names, and deliver its handle.

        Raises:
            ExchangeFailed: the service cannot be called.
        """
        try:
            await deliver(_build_result(message, **await self._send(message, deliver)))
        except (FileRefused, UploadFailed) as error:
            await deliver(_build_result(message, text=str(error), is_error=True))

    async def _send(self, message: ClientMessage, deliver: Deliver) -> dict[str, Any]:
        arguments = _read_arguments(message)
        async with AsyncExitStack() as files:
            # In a thread: a network drive that does not answer would stop every other call.
            file = await anyio.to_thread.run_sync(
                files.enter_context, self._folders.open_file(arguments.pop("path"))
            )
            if file.size == 0:
                raise FileRefused(f"{file.name} is empty, and an upload has at least one byte.")
            answer = await self._service.call(self._ask_for_link(message, file, arguments))
            result = read_object(answer.get("result"))
            if not result or result.get("isError"):
                return {"answer": answer}
            target = await self._service.find_target()
            link = _read_link(result, target)

            async def show_progress(sent: int) -> None:
                token = _read_meta(message).get("progressToken")
                if token is not None:
                    await deliver(_build_progress(token, sent, file.size))

            receipt = await self._put(link, file, show_progress)
        text = (
            f"{receipt['upload_id']} is {file.name}, {file.size:,} bytes. "
            f"launch_inference takes {receipt['upload_id']} as the url of its inputs."
        )
        return {"text": text, "fields": {"name": file.name, **receipt}}

    def _ask_for_link(
        self, message: ClientMessage, file: SharedFile, arguments: Mapping[str, Any]
    ) -> ClientMessage:
        params: dict[str, Any] = {
            "name": _LINK_TOOL,
            "arguments": {"name": file.name, "size_bytes": file.size, **arguments},
        }
        # What it says of the client and of the protocol holds for this call too.
        if meta := {k: v for k, v in _read_meta(message).items() if k != "progressToken"}:
            params["_meta"] = meta
        return build_client_message("tools/call", f"{TOOL_NAME}-{next(self._numbers)}", params)

    async def _put(
        self, link: _Link, file: SharedFile, show_progress: Callable[[int], Awaitable[None]]
    ) -> dict[str, Any]:
        headers = {
            "content-type": "application/octet-stream",
            **link.headers,
            "content-length": str(file.size),
        }
        body = _read_pieces(file, show_progress)
        try:
            async with self._service.http.stream(
                "PUT", link.url, content=body, headers=headers
            ) as response:
                reply = await read_bounded(response.aiter_bytes(), _MAX_REPLY_BYTES)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise UploadFailed(
                "The connection broke while the file was sent. Call upload_file again: what has "
                "arrived of it is deleted."
            ) from error
        finally:
            await body.aclose()
        if response.status_code != HTTPStatus.CREATED:
            raise UploadFailed(_describe_refusal(response, reply))
        try:
            fields = json.loads(reply)
            return {name: fields[name] for name in _RESULT if name != "name"}
        except (ValueError, TypeError, KeyError):
            raise UploadFailed(
                "The service answered with no receipt for the file. Call upload_file again."
            ) from None

    def _describe(self) -> dict[str, Any]:
        folders = ", ".join(map(str, self._folders.paths))
        return {
            "name": TOOL_NAME,
            "title": "Send a file of this computer",
            "description": (
                "Send a file of this computer, and get an upload_id, which goes wherever a file "
                f"goes. Only from {folders}; nothing hidden, and no links."
            ),
            "inputSchema": {"type": "object", "properties": _ARGUMENTS, "required": ["path"]},
            "outputSchema": {"type": "object", "properties": _RESULT, "required": [*_RESULT]},
            "annotations": {
                "readOnlyHint": False,
                "destructiveHint": False,
                "idempotentHint": False,
                "openWorldHint": True,
            },
        }


async def _read_pieces(
    file: SharedFile, show_progress: Callable[[int], Awaitable[None]]
) -> AsyncGenerator[bytes]:
    """Yield the bytes that the file had when it was opened, and no last piece if it has changed.

    A request that breaks off leaves nothing at the service.
    """
    sent, shown = 0, 0
    while sent < file.size:
        piece = await anyio.to_thread.run_sync(
            os.read, file.descriptor, min(_PIECE_BYTES, file.size - sent)
        )
        sent += len(piece)
        if not piece or (sent == file.size and file.has_changed()):
            raise FileRefused(
                f"{file.name} was written while it was sent, so nothing of it was stored. Call "
                f"upload_file again when it is complete."
            )
        yield piece
        if sent - shown >= file.size // _PROGRESS_STEPS:
            shown = sent
            await show_progress(sent)


def _read_arguments(message: ClientMessage) -> dict[str, str]:
    arguments = read_object(message.params.get("arguments"))
    if not isinstance(arguments.get("path"), str):
        raise FileRefused('upload_file needs the path of a file: {"path": "data/train.csv"}.')
    present = {name: value for name, value in arguments.items() if value is not None}
    for name, value in present.items():
        if name not in _ARGUMENTS:
            raise FileRefused(f"upload_file has no {name}; it has {', '.join(_ARGUMENTS)}.")
        if not isinstance(value, str):
            raise FileRefused(f"{name} is a string.")
    return present


def _read_meta(message: ClientMessage) -> Mapping[str, Any]:
    return read_object(message.params.get("_meta"))


def _read_link(result: Mapping[str, Any], target: Target) -> _Link:
    """Return where the file goes.

    Raises:
        UploadFailed: that is not where the calls of the bridge go.
    """
    fields = read_object(result.get("structuredContent"))
    url = fields.get("url")
    if not isinstance(url, str) or fields.get("method") != "PUT":
        raise UploadFailed("The service has named no place for the file. Is it another version?")
    if _read_origin(url) not in map(_read_origin, loopback_aliases(target.endpoint)):
        raise UploadFailed(
            f"The service wants the file at another address than {target.endpoint}, and it is sent "
            f"nowhere else. Start the bridge with the address that the service has as "
            f"HOLDFAST_PUBLIC_URL."
        )
    headers = read_object(fields.get("headers"))
    return _Link(
        url,
        {
            name: value
            for name, value in headers.items()
            if isinstance(value, str) and name.lower() not in _OWN_HEADERS
        },
    )


def _read_origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        return None
    if parts.userinfo or not parts.host:
        return None
    return parts.scheme, parts.host, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _describe_refusal(response: httpx2.Response, reply: bytes) -> str:
    """Return the sentence of the service, which is plain text, or one for its status."""
    if response.headers.get("content-type", "").startswith("text/plain"):
        return reply.decode("utf-8", "replace").strip()[:_MAX_REFUSAL_CHARS]
    return (
        f"The service did not take the file: it answered with {response.status_code}. "
        f"Call upload_file again later."
    )


def _build_progress(token: object, sent: int, size: int) -> ServerMessage:
    params = {"progressToken": token, "progress": sent, "total": size}
    return build_server_message(
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    )


def _build_result(
    message: ClientMessage,
    *,
    text: str = "",
    fields: Mapping[str, Any] | None = None,
    is_error: bool = False,
    answer: Mapping[str, Any] | None = None,
) -> ServerMessage:
    """Write the answer to a call.

    Args:
        message: the call.
        text: for the model.
        fields: the same for programs.
        is_error: whether the file was not sent.
        answer: that of the service, which refused: it is the answer then.
    """
    envelope: dict[str, RequestId | str | None] = {"jsonrpc": "2.0", "id": message.request_id}
    if answer is not None:
        return build_server_message({**answer, **envelope})
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": is_error}
    if fields is not None:
        result["structuredContent"] = fields
    if message.revision is not None:
        result["resultType"] = "complete"
    return build_server_message({**envelope, "result": result})
