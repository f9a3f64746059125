"""The tool that makes a link by which a file of the caller's machine is sent."""

import shlex
from datetime import datetime
from typing import Annotated, Literal

from mcp_types import CallToolResult
from pydantic import Field

from schema.artifacts import uploads
from schema.artifacts.upload_tables import Upload
from schema.artifacts.uploads import NewUpload
from schema.common import ids
from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.common.text import format_utc
from schema.specs.inputs.file_argument import safe_file_name
from service.auth.caller import ACTING_SCOPES
from service.jobs.defaults import output_bucket, resolve_defaults
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, build_tool, tool_result
from service.mcp.tools.arguments import LaunchWorkspaceId
from service.runtime.sealed_tokens import UploadGrant
from service.views.base import Detail, View


class UploadLinkView(View):
    """Where to send a file, and what it is called then."""

    upload_id: str
    url: str
    method: Detail[Literal["PUT"]]
    headers: Detail[dict[str, str]]
    """That the request needs, beside its Content-Length."""
    curl: str
    """Sends the file from the folder that it is in."""
    expires_at: Detail[datetime]
    """Until when the request may begin."""
    max_bytes: Detail[int]


async def create_upload(
    name: Annotated[str, Field(min_length=1, max_length=500, description="Of the file.")],
    size_bytes: Annotated[
        int | None, Field(ge=1, le=10**12, description="Refuse any other size.")
    ] = None,
    media_type: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*$",
            description="Refuse bytes that are seen to be another.",
        ),
    ] = None,
    workspace_id: LaunchWorkspaceId = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, UploadLinkView]:
    """Make a link that takes one file of your machine, once, within an hour, without a sign-in.

    Send it with the curl line of the answer. launch_inference takes upload_id as url of inputs.
    """
    limits = app.upload_limits
    if size_bytes is not None and size_bytes > limits.max_bytes:
        message = (
            f"size_bytes is {size_bytes:,}, and an upload has at most {limits.max_bytes:,} bytes; "
            f"put the file into a repository or a bucket, and name it as hf://…"
        )
        raise Invalid(message)
    resolved = await resolve_defaults(
        app, caller, workspace_id, labels=None, namespace=None, bucket=None
    )
    namespace = caller.resolve_namespace(resolved.arguments.get("namespace"))
    new_upload = NewUpload(
        name=safe_file_name(name.rpartition("/")[2]),
        media_type=media_type,
        declared_bytes=size_bytes,
        location=output_bucket(app.output_bucket_name, namespace, resolved),
        workspace_id=resolved.workspace_id,
    )
    async with app.transaction(caller) as tx:
        upload = await uploads.create_upload(
            tx, caller.subject_id, ids.new_id(), new_upload, limits
        )
    grant = UploadGrant(caller.subject_id, upload.id)
    url = app.upload_links.link_to(grant, upload.link_expires_at)
    view = UploadLinkView(
        upload_id=ids.format_handle(HandleKind.UPLOAD, upload.id),
        url=url,
        method="PUT",
        headers={},
        curl=_write_curl(name, upload, url),
        expires_at=upload.link_expires_at,
        max_bytes=size_bytes or limits.max_bytes,
    )
    sentence = (
        f"{view.upload_id} takes {upload.name}, with at most {view.max_bytes:,} bytes, once, until "
        f"{format_utc(view.expires_at)}. Send it, then launch_inference takes {view.upload_id} as "
        f"the url of its inputs."
    )
    return tool_result(sentence, view, view.curl)


def _write_curl(name: str, upload: Upload, url: str) -> str:
    """Write the command that sends the file, by the name that it has on the caller's machine."""
    path = name if name.isprintable() else upload.name
    path = path if path.startswith("/") else f"./{path.removeprefix('./')}"
    return f"curl -sS --globoff --fail-with-body -T {shlex.quote(path)} {shlex.quote(url)}"


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [build_tool(create_upload, "Send a file", CREATES, *ACTING_SCOPES)]
