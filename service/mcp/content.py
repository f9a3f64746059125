"""Blocks of an answer beside its text: links, pictures and sounds.

Clients of older versions of the protocol fail on a block that they do not know. They are sent a
line of text in its place, unless the text of the answer says the same.
"""

import base64
from collections.abc import Iterable
from typing import Final

from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    ImageContent,
    ResourceLink,
    TextContent,
)
from mcp_types.version import is_version_at_least

from service.jobs.results import InlineFile
from service.views.files import FileView
from service.views.text import format_size

_LINK_VERSION: Final = "2025-06-18"
_AUDIO_VERSION: Final = "2025-03-26"
"""The first version of the protocol that has these blocks."""
_JOB_URI_PREFIX: Final = "job://"
"""A link to a job says nothing new to those who cannot follow it: its handle is in the text."""


def link_files(files: Iterable[FileView]) -> list[ResourceLink]:
    """Return a link to each file, with its type and its size."""
    return [
        ResourceLink(
            uri=uri, name=file.short_name, mime_type=file.media_type or None, size=file.size_bytes
        )
        for file in files
        if (uri := file.url or file.uri) is not None
    ]


def show_files(files: Iterable[InlineFile]) -> list[ContentBlock]:
    """Return a block for each picture and each sound."""
    return [_show_file(file) for file in files]


def adapt_content(result: CallToolResult, protocol_version: str) -> CallToolResult:
    """Replace the blocks that a client of a version of the protocol does not know."""
    known = [_adapt_block(block, protocol_version) for block in result.content]
    content = [block for block in known if block is not None]
    return result.model_copy(update={"content": content})


def _show_file(file: InlineFile) -> ContentBlock:
    data = base64.b64encode(file.content).decode()
    if file.is_image:
        return ImageContent(data=data, mime_type=file.media_type)
    return AudioContent(data=data, mime_type=file.media_type)


def _adapt_block(block: ContentBlock, protocol_version: str) -> ContentBlock | None:
    match block:
        case ResourceLink() if not is_version_at_least(protocol_version, _LINK_VERSION):
            return None if block.uri.startswith(_JOB_URI_PREFIX) else _link_line(block)
        case AudioContent() if not is_version_at_least(protocol_version, _AUDIO_VERSION):
            return TextContent(text=f"A sound ({block.mime_type}) that this client cannot be sent.")
        case _:
            return block


def _link_line(link: ResourceLink) -> TextContent:
    size = [] if link.size is None else [format_size(link.size)]
    facts = ", ".join([*([link.mime_type] if link.mime_type else []), *size])
    return TextContent(text=f"{link.name}{f' ({facts})' if facts else ''}: {link.uri}")
