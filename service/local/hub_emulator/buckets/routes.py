"""Endpoints of buckets, and who may call them."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
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
from service.local.hub_emulator.errors import (
    HubApiError,
    already_created_response,
    entry_not_found_error,
)
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.shared.links import LinkStore, redirect_to_link
from service.local.hub_emulator.shared.pagination import paginate
from service.local.hub_emulator.users import Permission

_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_XET_FILE_INFO_TYPE: Final = "application/vnd.xet-fileinfo+json"


class BucketRoutes:
    """The endpoints of buckets."""

    def __init__(
        self, buckets: BucketStore, xet_store: XetStore, transfer: XetTransfer, links: LinkStore
    ) -> None:
        self._buckets = buckets
        self._xet_store = xet_store
        self._transfer = transfer
        self._links = links

    def routes(self) -> list[Route]:
        """Return the routes."""
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
        """List a page of the buckets in a namespace that the user may see; `me` is their own."""
        user, namespace = find_current_user(request), request.path_params["namespace"]
        if namespace == "me":
            namespace = require_current_user(request).name
        search = request.query_params.get("search", "")
        buckets = [
            bucket.to_dict()
            for bucket in self._buckets.list_by_namespace(namespace)
            if search in bucket.name and bucket.is_readable_by(user)
        ]
        return paginate(request, buckets)

    async def create(self, request: Request) -> Response:
        """Create a bucket, unless the name is taken."""
        user, owner = require_current_user(request), request.path_params["namespace"]
        namespace = user.find_namespace(user.name if owner == "me" else owner)
        if namespace is None or not user.has_permission(Permission.WRITE_REPOS):
            raise write_forbidden_error(f"namespace {owner}")
        body = await read_body(request, NewBucket)
        name = request.path_params["bucket"]
        if not _NAME_PATTERN.fullmatch(name):
            raise HubApiError(HTTPStatus.BAD_REQUEST, "Invalid bucket name")
        bucket = LocalBucket(namespace, name, private=body.visibility == "private")
        url = f"{get_hub_url(request)}/buckets/{bucket.id}"
        if self._buckets.get(bucket.id) is not None:
            return already_created_response("bucket", url)
        self._buckets.add(bucket)
        return JSONResponse({"url": url})

    async def inspect(self, request: Request) -> Response:
        """Describe a bucket."""
        return JSONResponse(self._require_readable(request).to_dict())

    async def delete(self, request: Request) -> Response:
        """Delete a bucket and its files."""
        self._buckets.remove(self._require_writable(request))
        return JSONResponse({"success": True})

    async def update_settings(self, request: Request) -> Response:
        """Make a bucket private or public."""
        bucket = self._require_writable(request)
        bucket.private = (await read_body(request, BucketSettingsRequest)).private
        self._buckets.save()
        return JSONResponse({"private": bucket.private})

    async def list_tree(self, request: Request) -> Response:
        """List a page of the files and folders that begin with a prefix."""
        bucket, prefix = self._require_readable(request), request.path_params.get("prefix", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        return paginate(request, bucket.list_tree(prefix, recursive=recursive))

    async def list_paths_info(self, request: Request) -> Response:
        """Describe the files at some paths; paths without a file are left out."""
        bucket = self._require_readable(request)
        body = await read_body(request, PathsInfoRequest)
        files = [bucket.files[path] for path in body.paths if path in bucket.files]
        return JSONResponse([file.to_dict() for file in files])

    async def apply_batch(self, request: Request) -> Response:
        """Add, copy and delete files; each operation succeeds or fails on its own."""
        bucket = self._require_writable(request)
        operations = parse_operations(await request.body())
        results = [
            (operation.path, self._apply_operation(bucket, operation, request))
            for operation in operations
        ]
        self._buckets.save()
        failed = [{"path": path, "error": error} for path, error in results if error]
        summary = {
            "success": not failed,
            "processed": len(results),
            "succeeded": len(results) - len(failed),
            "failed": failed,
        }
        all_failed = failed and len(failed) == len(results)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if all_failed else HTTPStatus.OK
        return JSONResponse(summary, status)

    async def issue_read_token(self, request: Request) -> Response:
        """Issue a token that reads the content of the bucket's files."""
        return self._issue_token(request, self._require_readable(request), can_write=False)

    async def issue_write_token(self, request: Request) -> Response:
        """Issue a token that uploads content."""
        return self._issue_token(request, self._require_writable(request), can_write=True)

    async def resolve_file(self, request: Request) -> Response:
        """Locate a file: by its hash if the client accepts that, else by a link without a token."""
        bucket = self._require_readable(request)
        file = bucket.files.get(request.path_params["path"])
        if file is None:
            raise entry_not_found_error()
        token_url = f"{get_hub_url(request)}/api/buckets/{bucket.id}/xet-read-token"
        headers = {
            "x-linked-size": str(file.size),
            "x-linked-etag": f'"{file.xet_hash}"',
            "x-xet-hash": file.xet_hash,
            "link": f'<{token_url}>; rel="xet-auth"',
        }
        if request.headers.get("accept") == _XET_FILE_INFO_TYPE:
            location = {"hash": file.xet_hash, "refreshUrl": token_url}
            return JSONResponse(location, headers=headers)
        link = self._links.create(f"{file.xet_hash}/{file.size}")
        return redirect_to_link(request, f"xet-bridge/{link}", headers)

    async def download_by_link(self, request: Request) -> Response:
        """Stream the file of a link; the link is the authority."""
        xet_hash, _, size = self._links.resolve(request.path_params["link"]).partition("/")
        stream = self._transfer.stream(get_hub_url(request), xet_hash, int(size))
        headers = {"content-length": size}
        return StreamingResponse(stream, media_type="application/octet-stream", headers=headers)

    def _apply_operation(
        self, bucket: LocalBucket, operation: BucketOperation, request: Request
    ) -> str:
        """Apply one operation; return why it failed, or an empty text."""
        if isinstance(operation, DeleteFileOperation):
            return "" if bucket.files.pop(operation.path, None) else "File not found"
        if operation.type == "copyFile":
            source = self._buckets.get(operation.source_repo_id)
            if (
                source is None
                or not source.is_readable_by(find_current_user(request))
                or not source.has_content(operation.xet_hash)
            ):
                return "Source file not found"
        size = self._xet_store.get_file_size(operation.xet_hash)
        if size is None:
            return "Content not found"
        mtime_ms = operation.mtime
        mtime = None if mtime_ms is None else datetime.fromtimestamp(mtime_ms / 1000, UTC)
        bucket.put_file(operation.path, operation.xet_hash, size, mtime)
        return ""

    def _issue_token(self, request: Request, bucket: LocalBucket, *, can_write: bool) -> Response:
        token, expires_at = self._xet_store.issue_token(
            can_write=can_write, can_read=bucket.has_content
        )
        cas_url = self._xet_store.get_url(get_hub_url(request))
        return JSONResponse({"accessToken": token, "exp": expires_at, "casUrl": cas_url})

    def _require_readable(self, request: Request) -> LocalBucket:
        bucket = self._buckets.get("{namespace}/{bucket}".format(**request.path_params))
        if bucket is None or not bucket.is_readable_by(find_current_user(request)):
            raise HubApiError(HTTPStatus.NOT_FOUND, "Bucket not found", code="RepoNotFound")
        return bucket

    def _require_writable(self, request: Request) -> LocalBucket:
        bucket = self._require_readable(request)
        if not bucket.is_writable_by(require_current_user(request)):
            raise write_forbidden_error(f"bucket {bucket.id}")
        return bucket
