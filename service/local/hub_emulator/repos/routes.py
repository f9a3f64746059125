"""Endpoints of repositories, and who may call them."""

import re
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

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
    repository_not_found_error,
)
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
from service.local.hub_emulator.shared.links import LinkStore, redirect_to_link
from service.local.hub_emulator.shared.pagination import paginate
from service.local.hub_emulator.users import Permission

_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_LINK_THRESHOLD_BYTES: Final = 1024 * 1024
"""Files of this size and larger are given by a link; the Hub's threshold is ten times as high."""

_LINK_PREFIX: Final = "repo:"
"""Marks the targets of our links: buckets put theirs into the same `LinkStore`."""


class RepoRoutes:
    """The endpoints of repositories."""

    def __init__(self, repos: RepoStore, links: LinkStore) -> None:
        self._repos = repos
        self._links = links

    def routes(self) -> list[Route]:
        """Return the routes; the files of a model are at the root, all others below a prefix."""
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
        """Create a repository, unless the name is taken."""
        body = await read_body(request, NewRepo)
        user = require_current_user(request)
        owner = body.organization or user.name
        namespace = user.find_namespace(owner)
        if namespace is None or not user.has_permission(Permission.WRITE_REPOS):
            raise write_forbidden_error(f"namespace {owner}")
        if not _NAME_PATTERN.fullmatch(body.name):
            raise HubApiError(HTTPStatus.BAD_REQUEST, "Invalid repo name")
        repo = LocalRepo(body.type, namespace, body.name, private=body.visibility == "private")
        url = f"{get_hub_url(request)}/{repo.web_path}"
        if self._repos.get(repo.key) is not None:
            return already_created_response(f"{repo.type} repo", url)
        self._repos.add(repo)
        return JSONResponse({"url": url, "name": repo.id})

    async def delete(self, request: Request) -> Response:
        """Delete a repository and its files."""
        body = await read_body(request, RepoReference)
        user = require_current_user(request)
        key = f"{body.type}s/{body.organization or user.name}/{body.name}"
        repo = self._require_readable(request, key)
        if not repo.is_writable_by(user):
            raise write_forbidden_error(f"repo {repo.id}")
        self._repos.remove(repo)
        return JSONResponse({})

    async def preupload(self, request: Request) -> Response:
        """Say how to upload files: here, all of them inside the commit."""
        repo, commit = self._require_commit(request, for_writing=True)
        body = await read_body(request, PreuploadRequest)
        files = [
            {
                "path": file.path,
                "uploadMode": "regular",
                "shouldIgnore": False,
                **({"oid": commit.files[file.path].oid} if file.path in commit.files else {}),
            }
            for file in body.files
        ]
        return JSONResponse({"files": files, "commitOid": commit.oid, "repo": repo.id})

    async def create_commit(self, request: Request) -> Response:
        """Apply all changes of a commit or none; a parent, if named, must be the newest commit."""
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
                    prefix = f"{change.path.rstrip('/')}/"
                    files = {
                        path: blob for path, blob in files.items() if not path.startswith(prefix)
                    }
        commit = repo.add_commit(header.summary, files)
        self._repos.save()
        url = f"{get_hub_url(request)}/{repo.web_path}/commit/{commit.oid}"
        return JSONResponse({"success": True, "commitOid": commit.oid, "commitUrl": url})

    async def list_tree(self, request: Request) -> Response:
        """List a page of a folder."""
        repo, commit = self._require_commit(request)
        folder = request.path_params.get("path", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        entries = repo.list_tree(commit, folder, recursive=recursive)
        if folder and not entries:
            raise entry_not_found_error()
        return paginate(request, entries)

    async def resolve_file(self, request: Request) -> Response:
        """Give a file; redirect to a link without a token if the file is large."""
        _, commit = self._require_commit(request)
        blob = commit.files.get(request.path_params["path"])
        headers = {"x-repo-commit": commit.oid}
        if blob is None:
            raise entry_not_found_error()
        if blob.size < _LINK_THRESHOLD_BYTES:
            headers["etag"] = f'"{blob.oid}"'
            return FileResponse(self._repos.get_blob_path(blob.sha256), headers=headers)
        headers |= {"x-linked-size": str(blob.size), "x-linked-etag": f'"{blob.sha256}"'}
        link = self._links.create(f"{_LINK_PREFIX}{blob.sha256}")
        return redirect_to_link(request, f"repo-bridge/{link}", headers)

    async def download_by_link(self, request: Request) -> Response:
        """Give the file of a link; the link is the authority."""
        target = self._links.resolve(request.path_params["link"])
        if not target.startswith(_LINK_PREFIX):
            raise HubApiError(HTTPStatus.FORBIDDEN, "The link is for something else")
        return FileResponse(self._repos.get_blob_path(target.removeprefix(_LINK_PREFIX)))

    def _require_commit(
        self, request: Request, *, for_writing: bool = False
    ) -> tuple[LocalRepo, Commit]:
        """Return the repository and the commit of a request; a write needs the newest commit."""
        params = request.path_params
        repo = self._require_readable(
            request, f"{params.get('kind', 'models')}/{params['owner']}/{params['name']}"
        )
        if for_writing and not repo.is_writable_by(require_current_user(request)):
            raise write_forbidden_error(f"repo {repo.id}")
        commit = repo.find_commit(params["revision"])
        if commit is None or (for_writing and commit != repo.commits[-1]):
            message = f"Invalid rev id: {params['revision']}"
            raise HubApiError(HTTPStatus.NOT_FOUND, message, code="RevisionNotFound")
        return repo, commit

    def _require_readable(self, request: Request, key: str) -> LocalRepo:
        repo, user = self._repos.get(key), find_current_user(request)
        if repo is not None and repo.is_readable_by(user):
            return repo
        # As on the Hub: a caller without a token does not learn whether a token would help.
        raise repository_not_found_error(
            HTTPStatus.UNAUTHORIZED if user is None else HTTPStatus.NOT_FOUND
        )
