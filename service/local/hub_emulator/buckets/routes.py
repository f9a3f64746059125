"""What may be asked about buckets over HTTP, and by whom."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub_emulator.buckets.schemas import (
    BucketOperation,
    BucketSettingsRequest,
    DeleteFileOperation,
    NewBucket,
    PathsInfoRequest,
    parse_operations,
)
from service.local.hub_emulator.buckets.store import BucketStore, LocalBucket
from service.local.hub_emulator.buckets.xet_store import XetStore
from service.local.hub_emulator.buckets.xet_transfer import XetTransfer
from service.local.hub_emulator.current_user import (
    find_current_user,
    get_hub_url,
    require_current_user,
    write_forbidden_error,
)
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import Permission

_PAGE_SIZE: Final = 100
_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_XET_FILE_INFO_TYPE: Final = "application/vnd.xet-fileinfo+json"


class BucketRoutes:
    """The endpoints of buckets."""

    def __init__(self, buckets: BucketStore, xet_store: XetStore, transfer: XetTransfer) -> None:
        self._buckets = buckets
        self._xet_store = xet_store
        self._transfer = transfer

    def routes(self) -> list[Route]:
        """List them."""
        of_bucket = "/api/buckets/{namespace}/{bucket}"
        return [
            Route("/api/buckets/{namespace}", self.list_page),
            Route(of_bucket, self.create, methods=["POST"]),
            Route(of_bucket, self.inspect),
            Route(of_bucket, self.delete, methods=["DELETE"]),
            Route(f"{of_bucket}/settings", self.update_settings, methods=["PUT"]),
            Route(f"{of_bucket}/tree", self.list_tree),
            Route(f"{of_bucket}/tree/{{prefix:path}}", self.list_tree),
            Route(f"{of_bucket}/paths-info", self.list_paths_info, methods=["POST"]),
            Route(f"{of_bucket}/batch", self.apply_batch, methods=["POST"]),
            Route(f"{of_bucket}/xet-read-token", self.issue_read_token),
            Route(f"{of_bucket}/xet-write-token", self.issue_write_token),
            Route("/buckets/{namespace}/{bucket}/resolve/{path:path}", self.resolve_file),
            Route("/xet-bridge/{link}", self.download_by_link),
        ]

    async def list_page(self, request: Request) -> Response:
        """List a page of those the caller may see in a namespace; `me` is their own."""
        caller, name = find_current_user(request), request.path_params["namespace"]
        if name == "me":
            name = require_current_user(request).name
        search = request.query_params.get("search", "")
        shown = [
            each.to_dict()
            for each in self._buckets.list_by_namespace(name)
            if search in each.name and each.is_readable_by(caller)
        ]
        return paginate(request, shown)

    async def create(self, request: Request) -> Response:
        """Create a bucket, unless there is one of that name."""
        caller, name = require_current_user(request), request.path_params["namespace"]
        namespace = caller.find_namespace(caller.name if name == "me" else name)
        if namespace is None or not caller.has_permission(Permission.WRITE_REPOS):
            raise write_forbidden_error(f"namespace {name}")
        asked = await read_body(request, NewBucket)
        if not _NAME_PATTERN.fullmatch(request.path_params["bucket"]):
            raise HubApiError(HTTPStatus.BAD_REQUEST, "Invalid bucket name")
        private = asked.visibility == "private"
        bucket = LocalBucket(namespace, request.path_params["bucket"], private=private)
        url = {"url": f"{get_hub_url(request)}/buckets/{bucket.id}"}
        if self._buckets.get(bucket.id) is not None:
            # As the real client needs it, the answer says the same as if it were new.
            message = "You already created this bucket"
            headers = {"x-error-message": message}
            return JSONResponse({"error": message} | url, HTTPStatus.CONFLICT, headers)
        self._buckets.add(bucket)
        return JSONResponse(url)

    async def inspect(self, request: Request) -> Response:
        """Describe a bucket."""
        return JSONResponse(self._require_readable(request).to_dict())

    async def delete(self, request: Request) -> Response:
        """Delete a bucket with all that is in it."""
        self._buckets.remove(self._require_writable(request))
        return JSONResponse({"success": True})

    async def update_settings(self, request: Request) -> Response:
        """Make a bucket private, or public."""
        bucket = self._require_writable(request)
        bucket.private = (await read_body(request, BucketSettingsRequest)).private
        self._buckets.save()
        return JSONResponse({"private": bucket.private})

    async def list_tree(self, request: Request) -> Response:
        """List a page of what begins with a prefix."""
        bucket, prefix = self._require_readable(request), request.path_params.get("prefix", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        return paginate(request, bucket.list_tree(prefix, recursive=recursive))

    async def list_paths_info(self, request: Request) -> Response:
        """Describe those of some files that there are."""
        bucket = self._require_readable(request)
        asked = await read_body(request, PathsInfoRequest)
        found = [bucket.files[path] for path in asked.paths if path in bucket.files]
        return JSONResponse([file.to_dict() for file in found])

    async def apply_batch(self, request: Request) -> Response:
        """Add, copy and delete files, each by itself: some may fail."""
        bucket = self._require_writable(request)
        operations = parse_operations(await request.body())
        tried = [(each.path, self._apply_operation(bucket, each, request)) for each in operations]
        self._buckets.save()
        failed = [{"path": path, "error": wrong} for path, wrong in tried if wrong]
        told = {
            "success": not failed,
            "processed": len(tried),
            "succeeded": len(tried) - len(failed),
            "failed": failed,
        }
        none_done = failed and len(failed) == len(tried)
        return JSONResponse(told, HTTPStatus.UNPROCESSABLE_ENTITY if none_done else HTTPStatus.OK)

    async def issue_read_token(self, request: Request) -> Response:
        """Hand out a token for the content of a bucket's files."""
        return self._issue_token(request, self._require_readable(request), can_write=False)

    async def issue_write_token(self, request: Request) -> Response:
        """Hand out a token for new content."""
        return self._issue_token(request, self._require_writable(request), can_write=True)

    async def resolve_file(self, request: Request) -> Response:
        """Say where a file can be had: by its hash, or at a link that needs no token."""
        bucket = self._require_readable(request)
        file = bucket.files.get(request.path_params["path"])
        if file is None:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        tokens = f"{get_hub_url(request)}/api/buckets/{bucket.id}/xet-read-token"
        headers = {
            "x-linked-size": str(file.size),
            "x-linked-etag": f'"{file.xet_hash}"',
            "x-xet-hash": file.xet_hash,
            "link": f'<{tokens}>; rel="xet-auth"',
        }
        if request.headers.get("accept") == _XET_FILE_INFO_TYPE:
            told = {"hash": file.xet_hash, "refreshUrl": tokens}
            return JSONResponse(told, headers=headers)
        link = self._xet_store.create_link(f"{file.xet_hash}/{file.size}")
        # Another host, as on the Hub: there no client shows its token, and some do not go there.
        bridge = request.base_url.replace(hostname="localhost")
        return RedirectResponse(f"{bridge}xet-bridge/{link}", HTTPStatus.FOUND, headers)

    async def download_by_link(self, request: Request) -> Response:
        """Give a file as it is to whoever has a link to it."""
        xet_hash, _, size = self._xet_store.resolve_link(request.path_params["link"]).partition("/")
        stream = self._transfer.stream(get_hub_url(request), xet_hash, int(size))
        headers = {"content-length": size}
        return StreamingResponse(stream, media_type="application/octet-stream", headers=headers)

    def _apply_operation(
        self, bucket: LocalBucket, operation: BucketOperation, request: Request
    ) -> str:
        """Carry an operation out; say what is wrong with it, if it cannot be."""
        if isinstance(operation, DeleteFileOperation):
            return "" if bucket.files.pop(operation.path, None) else "File not found"
        if operation.type == "copyFile":
            source = self._buckets.get(operation.source_repo_id)
            seen = source is not None and source.is_readable_by(find_current_user(request))
            if not (source and seen and source.has_content(operation.xet_hash)):
                return "Source file not found"
        size = self._xet_store.get_file_size(operation.xet_hash)
        if size is None:
            return "Content not found"
        written = operation.mtime
        at = None if written is None else datetime.fromtimestamp(written / 1000, UTC)
        bucket.put_file(operation.path, operation.xet_hash, size, at)
        return ""

    def _issue_token(self, request: Request, bucket: LocalBucket, *, can_write: bool) -> Response:
        token, expires_at = self._xet_store.issue_token(
            can_write=can_write, can_read=bucket.has_content
        )
        where = self._xet_store.get_url(get_hub_url(request))
        return JSONResponse({"accessToken": token, "exp": expires_at, "casUrl": where})

    def _require_readable(self, request: Request) -> LocalBucket:
        named = request.path_params
        bucket = self._buckets.get(f"{named['namespace']}/{named['bucket']}")
        if bucket is None or not bucket.is_readable_by(find_current_user(request)):
            raise HubApiError(HTTPStatus.NOT_FOUND, "Bucket not found", code="RepoNotFound")
        return bucket

    def _require_writable(self, request: Request) -> LocalBucket:
        bucket = self._require_readable(request)
        if not bucket.is_writable_by(require_current_user(request)):
            raise write_forbidden_error(f"bucket {bucket.id}")
        return bucket


def paginate(request: Request, entries: list[dict[str, Any]]) -> Response:
    """Answer with a page, and say where the next one is."""
    cursor = request.query_params.get("cursor", "0")
    if not (cursor.isascii() and cursor.isdigit()):
        raise HubApiError(HTTPStatus.BAD_REQUEST, "cursor: Invalid")
    start = int(cursor)
    headers: dict[str, str] = {}
    if len(entries) > start + _PAGE_SIZE:
        url = request.url.include_query_params(cursor=start + _PAGE_SIZE)
        headers["link"] = f'<{url}>; rel="next"'
    return JSONResponse(entries[start : start + _PAGE_SIZE], headers=headers)
