"""What may be asked about buckets over HTTP, and by whom."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub_emulator.buckets.schemas import (
    Deletion,
    NewBucket,
    NewSettings,
    Operation,
    WantedPaths,
    operations_of,
)
from service.local.hub_emulator.buckets.store import Bucket, Buckets
from service.local.hub_emulator.buckets.xet_store import Content
from service.local.hub_emulator.buckets.xet_transfer import Transfer
from service.local.hub_emulator.current_user import caller_of, hub_url, may_not_write, signed_in
from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import Permission

_PAGE: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_BY_HASH: Final = "application/vnd.xet-fileinfo+json"


class BucketRoutes:
    """The endpoints of buckets."""

    def __init__(self, buckets: Buckets, content: Content, transfer: Transfer) -> None:
        self._buckets = buckets
        self._content = content
        self._transfer = transfer

    def routes(self) -> list[Route]:
        """List them."""
        of_bucket = "/api/buckets/{namespace}/{bucket}"
        return [
            Route("/api/buckets/{namespace}", self.page),
            Route(of_bucket, self.create, methods=["POST"]),
            Route(of_bucket, self.inspect),
            Route(of_bucket, self.delete, methods=["DELETE"]),
            Route(f"{of_bucket}/settings", self.change, methods=["PUT"]),
            Route(f"{of_bucket}/tree", self.tree),
            Route(f"{of_bucket}/tree/{{prefix:path}}", self.tree),
            Route(f"{of_bucket}/paths-info", self.paths_info, methods=["POST"]),
            Route(f"{of_bucket}/batch", self.batch, methods=["POST"]),
            Route(f"{of_bucket}/xet-read-token", self.admit_reader),
            Route(f"{of_bucket}/xet-write-token", self.admit_writer),
            Route("/buckets/{namespace}/{bucket}/resolve/{path:path}", self.resolve),
            Route("/xet-bridge/{link}", self.bridge),
        ]

    async def page(self, request: Request) -> Response:
        """List a page of those the caller may see in a namespace; `me` is their own."""
        caller, name = caller_of(request), request.path_params["namespace"]
        if name == "me":
            name = signed_in(request).name
        search = request.query_params.get("search", "")
        shown = [
            each.described()
            for each in self._buckets.of(name)
            if search in each.name and each.may_be_read(caller)
        ]
        return paged(request, shown)

    async def create(self, request: Request) -> Response:
        """Create a bucket, unless there is one of that name."""
        caller, name = signed_in(request), request.path_params["namespace"]
        namespace = caller.namespace(caller.name if name == "me" else name)
        if namespace is None or not caller.may(Permission.WRITE_REPOS):
            raise may_not_write(f"namespace {name}")
        asked = await read_body(request, NewBucket)
        if not _NAME.fullmatch(request.path_params["bucket"]):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid bucket name")
        private = asked.visibility == "private"
        bucket = Bucket(namespace, request.path_params["bucket"], private=private)
        url = {"url": f"{hub_url(request)}/buckets/{bucket.id}"}
        if self._buckets.get(bucket.id) is not None:
            # As the real client needs it, the answer says the same as if it were new.
            message = "You already created this bucket"
            headers = {"x-error-message": message}
            return JSONResponse({"error": message} | url, HTTPStatus.CONFLICT, headers)
        self._buckets.add(bucket)
        return JSONResponse(url)

    async def inspect(self, request: Request) -> Response:
        """Describe a bucket."""
        return JSONResponse(self._readable(request).described())

    async def delete(self, request: Request) -> Response:
        """Delete a bucket with all that is in it."""
        self._buckets.remove(self._writable(request))
        return JSONResponse({"success": True})

    async def change(self, request: Request) -> Response:
        """Make a bucket private, or public."""
        bucket = self._writable(request)
        bucket.private = (await read_body(request, NewSettings)).private
        self._buckets.save()
        return JSONResponse({"private": bucket.private})

    async def tree(self, request: Request) -> Response:
        """List a page of what begins with a prefix."""
        bucket, prefix = self._readable(request), request.path_params.get("prefix", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        return paged(request, bucket.tree(prefix, recursive=recursive))

    async def paths_info(self, request: Request) -> Response:
        """Describe those of some files that there are."""
        bucket = self._readable(request)
        asked = await read_body(request, WantedPaths)
        found = [bucket.files[path] for path in asked.paths if path in bucket.files]
        return JSONResponse([file.described() for file in found])

    async def batch(self, request: Request) -> Response:
        """Add, copy and delete files, each by itself: some may fail."""
        bucket = self._writable(request)
        operations = operations_of(await request.body())
        tried = [(each.path, self._apply(bucket, each, request)) for each in operations]
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

    async def admit_reader(self, request: Request) -> Response:
        """Hand out a token for the content of a bucket's files."""
        return self._admit(request, self._readable(request), writes=False)

    async def admit_writer(self, request: Request) -> Response:
        """Hand out a token for new content."""
        return self._admit(request, self._writable(request), writes=True)

    async def resolve(self, request: Request) -> Response:
        """Say where a file can be had: by its hash, or at a link that needs no token."""
        bucket = self._readable(request)
        file = bucket.files.get(request.path_params["path"])
        if file is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        tokens = f"{hub_url(request)}/api/buckets/{bucket.id}/xet-read-token"
        headers = {
            "x-linked-size": str(file.size),
            "x-linked-etag": f'"{file.xet_hash}"',
            "x-xet-hash": file.xet_hash,
            "link": f'<{tokens}>; rel="xet-auth"',
        }
        if request.headers.get("accept") == _BY_HASH:
            told = {"hash": file.xet_hash, "refreshUrl": tokens}
            return JSONResponse(told, headers=headers)
        link = self._content.lend(f"{file.xet_hash}/{file.size}")
        # Another host, as on the Hub: there no client shows its token, and some do not go there.
        bridge = request.base_url.replace(hostname="localhost")
        return RedirectResponse(f"{bridge}xet-bridge/{link}", HTTPStatus.FOUND, headers)

    async def bridge(self, request: Request) -> Response:
        """Give a file as it is to whoever has a link to it."""
        xet_hash, _, size = self._content.lent(request.path_params["link"]).partition("/")
        stream = self._transfer.stream(hub_url(request), xet_hash, int(size))
        headers = {"content-length": size}
        return StreamingResponse(stream, media_type="application/octet-stream", headers=headers)

    def _apply(self, bucket: Bucket, operation: Operation, request: Request) -> str:
        """Carry an operation out; say what is wrong with it, if it cannot be."""
        if isinstance(operation, Deletion):
            return "" if bucket.files.pop(operation.path, None) else "File not found"
        if operation.type == "copyFile":
            source = self._buckets.get(operation.source_repo_id)
            seen = source is not None and source.may_be_read(caller_of(request))
            if not (source and seen and source.holds(operation.xet_hash)):
                return "Source file not found"
        size = self._content.size(operation.xet_hash)
        if size is None:
            return "Content not found"
        written = operation.mtime
        at = None if written is None else datetime.fromtimestamp(written / 1000, UTC)
        bucket.put(operation.path, operation.xet_hash, size, at)
        return ""

    def _admit(self, request: Request, bucket: Bucket, *, writes: bool) -> Response:
        token, expires_at = self._content.admit(writes=writes, reads=bucket.holds)
        where = self._content.at(hub_url(request))
        return JSONResponse({"accessToken": token, "exp": expires_at, "casUrl": where})

    def _readable(self, request: Request) -> Bucket:
        named = request.path_params
        bucket = self._buckets.get(f"{named['namespace']}/{named['bucket']}")
        if bucket is None or not bucket.may_be_read(caller_of(request)):
            raise Refusal(HTTPStatus.NOT_FOUND, "Bucket not found", code="RepoNotFound")
        return bucket

    def _writable(self, request: Request) -> Bucket:
        bucket = self._readable(request)
        if not bucket.may_be_written(signed_in(request)):
            raise may_not_write(f"bucket {bucket.id}")
        return bucket


def paged(request: Request, entries: list[dict[str, Any]]) -> Response:
    """Answer with a page, and say where the next one is."""
    cursor = request.query_params.get("cursor", "0")
    if not (cursor.isascii() and cursor.isdigit()):
        raise Refusal(HTTPStatus.BAD_REQUEST, "cursor: Invalid")
    start = int(cursor)
    headers: dict[str, str] = {}
    if len(entries) > start + _PAGE:
        url = request.url.include_query_params(cursor=start + _PAGE)
        headers["link"] = f'<{url}>; rel="next"'
    return JSONResponse(entries[start : start + _PAGE], headers=headers)
