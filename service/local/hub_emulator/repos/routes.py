"""What may be asked about repositories over HTTP, and by whom."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.buckets.routes import paginate
from service.local.hub_emulator.current_user import (
    find_current_user,
    get_hub_url,
    require_current_user,
    write_forbidden_error,
)
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.repos.schemas import (
    CommitDeletedFile,
    CommitDeletedFolder,
    CommitFile,
    NewRepo,
    PreuploadRequest,
    RepoReference,
    parse_commit,
)
from service.local.hub_emulator.repos.store import Commit, LocalRepo, RepoStore
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import Permission

_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_LINK_THRESHOLD_BYTES: Final = 1024 * 1024
"""Bytes from which on a file is given by a link; on the Hub they are ten times as many."""

_LINK_PREFIX: Final = "repo:"
"""Before what is lent by us: buckets lend by the same means."""


class RepoRoutes:
    """The endpoints of repositories; links to large files are lent, and looked up again."""

    def __init__(
        self,
        repos: RepoStore,
        create_link: Callable[[str], str],
        resolve_link: Callable[[str], str],
    ) -> None:
        self._repos = repos
        self._create_link = create_link
        self._resolve_link = resolve_link

    def routes(self) -> list[Route]:
        """List them; a model is at the root, where everything else has a prefix."""
        of_repo = "/api/{kind}/{owner}/{name}"
        file = "resolve/{revision}/{path:path}"
        return [
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/repos/delete", self.delete, methods=["DELETE"]),
            Route(f"{of_repo}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"{of_repo}/commit/{{revision}}", self.create_commit, methods=["POST"]),
            Route(f"{of_repo}/tree/{{revision}}", self.list_tree),
            Route(f"{of_repo}/tree/{{revision}}/{{path:path}}", self.list_tree),
            Route(f"/{{kind}}/{{owner}}/{{name}}/{file}", self.resolve_file),
            Route(f"/{{owner}}/{{name}}/{file}", self.resolve_file),
            Route("/repo-bridge/{link}", self.download_by_link),
        ]

    async def create(self, request: Request) -> Response:
        """Create a repository, unless there is one of that name."""
        asked = await read_body(request, NewRepo)
        caller = require_current_user(request)
        namespace = caller.find_namespace(asked.organization or caller.name)
        if namespace is None or not caller.has_permission(Permission.WRITE_REPOS):
            raise write_forbidden_error(f"namespace {asked.organization or caller.name}")
        if not _NAME_PATTERN.fullmatch(asked.name):
            raise HubApiError(HTTPStatus.BAD_REQUEST, "Invalid repo name")
        repo = LocalRepo(asked.type, namespace, asked.name, private=asked.visibility == "private")
        url = {
            "url": f"{get_hub_url(request)}/{'' if repo.type == 'model' else 'datasets/'}{repo.id}"
        }
        if self._repos.get(repo.key) is not None:
            message = f"You already created this {repo.type} repo"
            headers = {"x-error-message": message}
            return JSONResponse({"error": message} | url, HTTPStatus.CONFLICT, headers)
        self._repos.add(repo)
        return JSONResponse(url | {"name": repo.id})

    async def delete(self, request: Request) -> Response:
        """Delete a repository with all that is in it."""
        asked = await read_body(request, RepoReference)
        caller = require_current_user(request)
        named = f"{asked.type}s/{asked.organization or caller.name}/{asked.name}"
        repo = self._require_readable(request, named)
        if not repo.is_writable_by(caller):
            raise write_forbidden_error(f"repo {repo.id}")
        self._repos.remove(repo)
        return JSONResponse({})

    async def preupload(self, request: Request) -> Response:
        """Say how files are to be sent: here all of them in the commit."""
        repo, commit = self._require_commit(request, for_writing=True)
        asked = await read_body(request, PreuploadRequest)
        told = [
            {
                "path": each.path,
                "uploadMode": "regular",
                "shouldIgnore": False,
                **({"oid": commit.files[each.path].oid} if each.path in commit.files else {}),
            }
            for each in asked.files
        ]
        return JSONResponse({"files": told, "commitOid": commit.oid, "repo": repo.id})

    async def create_commit(self, request: Request) -> Response:
        """Change files, all or none; after no other commit than the one it may name."""
        repo, newest = self._require_commit(request, for_writing=True)
        header, changes = parse_commit(await request.body())
        if header.parent_commit not in {None, newest.oid}:
            message = "A commit has happened since. Please refresh and try again."
            raise HubApiError(HTTPStatus.PRECONDITION_FAILED, message)
        files = dict(newest.files)
        for change in changes:
            match change:
                case CommitFile():
                    files[change.path] = self._repos.save_blob(change.content)
                case CommitDeletedFile():
                    if files.pop(change.path, None) is None:
                        message = f"File {change.path} not found"
                        raise HubApiError(HTTPStatus.BAD_REQUEST, message)
                case CommitDeletedFolder():
                    start = f"{change.path.rstrip('/')}/"
                    files = {path: b for path, b in files.items() if not path.startswith(start)}
        made = repo.add_commit(header.summary, files)
        self._repos.save()
        prefix = "" if repo.type == "model" else "datasets/"
        url = f"{get_hub_url(request)}/{prefix}{repo.id}/commit/{made.oid}"
        return JSONResponse({"success": True, "commitOid": made.oid, "commitUrl": url})

    async def list_tree(self, request: Request) -> Response:
        """List a page of a folder."""
        repo, commit = self._require_commit(request)
        under = request.path_params.get("path", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        shown = repo.list_tree(commit, under, recursive=recursive)
        if under and not shown:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        return paginate(request, shown)

    async def resolve_file(self, request: Request) -> Response:
        """Give a file; a large one by a link, on another host, that needs no token."""
        _, commit = self._require_commit(request)
        blob = commit.files.get(request.path_params["path"])
        headers = {"x-repo-commit": commit.oid}
        if blob is None:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        if blob.size < _LINK_THRESHOLD_BYTES:
            headers["etag"] = f'"{blob.oid}"'
            return FileResponse(self._repos.get_blob_path(blob.sha256), headers=headers)
        headers |= {"x-linked-size": str(blob.size), "x-linked-etag": f'"{blob.sha256}"'}
        bridge = request.base_url.replace(hostname="localhost")
        where = f"{bridge}repo-bridge/{self._create_link(f'{_LINK_PREFIX}{blob.sha256}')}"
        return RedirectResponse(where, HTTPStatus.FOUND, headers)

    async def download_by_link(self, request: Request) -> Response:
        """Give a file to whoever has a link to it."""
        what = self._resolve_link(request.path_params["link"])
        if not what.startswith(_LINK_PREFIX):
            raise HubApiError(HTTPStatus.FORBIDDEN, "The link is for something else")
        return FileResponse(self._repos.get_blob_path(what.removeprefix(_LINK_PREFIX)))

    def _require_commit(
        self, request: Request, *, for_writing: bool = False
    ) -> tuple[LocalRepo, Commit]:
        """Return what a request is about; of what is to be changed, the newest."""
        named = request.path_params
        repo = self._require_readable(
            request, f"{named.get('kind', 'models')}/{named['owner']}/{named['name']}"
        )
        if for_writing and not repo.is_writable_by(require_current_user(request)):
            raise write_forbidden_error(f"repo {repo.id}")
        commit = repo.find_commit(named["revision"])
        if commit is None or (for_writing and commit != repo.commits[-1]):
            message = f"Invalid rev id: {named['revision']}"
            raise HubApiError(HTTPStatus.NOT_FOUND, message, code="RevisionNotFound")
        return repo, commit

    def _require_readable(self, request: Request, key: str) -> LocalRepo:
        repo, caller = self._repos.get(key), find_current_user(request)
        if repo is not None and repo.is_readable_by(caller):
            return repo
        # As on the Hub, who has not signed in is not told whether that would help.
        status = HTTPStatus.UNAUTHORIZED if caller is None else HTTPStatus.NOT_FOUND
        raise HubApiError(status, "Repository not found", code="RepoNotFound")
