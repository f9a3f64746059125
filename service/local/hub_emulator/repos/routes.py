"""What may be asked about repositories over HTTP, and by whom."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.buckets.routes import paged
from service.local.hub_emulator.current_user import caller_of, hub_url, may_not_write, signed_in
from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.repos.schemas import (
    Deletion,
    FolderDeletion,
    NamedRepo,
    NewFile,
    NewRepo,
    Offered,
    changes_of,
)
from service.local.hub_emulator.repos.store import Commit, Repo, Repos
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import Permission

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_LARGE: Final = 1024 * 1024
"""Bytes from which on a file is given by a link; on the Hub they are ten times as many."""

_LENT: Final = "repo:"
"""Before what is lent by us: buckets lend by the same means."""


class RepoRoutes:
    """The endpoints of repositories; links to large files are lent, and looked up again."""

    def __init__(
        self, repos: Repos, lend: Callable[[str], str], lent: Callable[[str], str]
    ) -> None:
        self._repos = repos
        self._lend = lend
        self._lent = lent

    def routes(self) -> list[Route]:
        """List them; a model is at the root, where everything else has a prefix."""
        of_repo = "/api/{kind}/{owner}/{name}"
        file = "resolve/{revision}/{path:path}"
        return [
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/repos/delete", self.delete, methods=["DELETE"]),
            Route(f"{of_repo}/preupload/{{revision}}", self.preupload, methods=["POST"]),
            Route(f"{of_repo}/commit/{{revision}}", self.commit, methods=["POST"]),
            Route(f"{of_repo}/tree/{{revision}}", self.tree),
            Route(f"{of_repo}/tree/{{revision}}/{{path:path}}", self.tree),
            Route(f"/{{kind}}/{{owner}}/{{name}}/{file}", self.resolve),
            Route(f"/{{owner}}/{{name}}/{file}", self.resolve),
            Route("/repo-bridge/{link}", self.bridge),
        ]

    async def create(self, request: Request) -> Response:
        """Create a repository, unless there is one of that name."""
        asked = await read_body(request, NewRepo)
        caller = signed_in(request)
        namespace = caller.namespace(asked.organization or caller.name)
        if namespace is None or not caller.may(Permission.WRITE_REPOS):
            raise may_not_write(f"namespace {asked.organization or caller.name}")
        if not _NAME.fullmatch(asked.name):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid repo name")
        repo = Repo(asked.type, namespace, asked.name, private=asked.visibility == "private")
        url = {"url": f"{hub_url(request)}/{'' if repo.type == 'model' else 'datasets/'}{repo.id}"}
        if self._repos.get(repo.key) is not None:
            message = f"You already created this {repo.type} repo"
            headers = {"x-error-message": message}
            return JSONResponse({"error": message} | url, HTTPStatus.CONFLICT, headers)
        self._repos.add(repo)
        return JSONResponse(url | {"name": repo.id})

    async def delete(self, request: Request) -> Response:
        """Delete a repository with all that is in it."""
        asked = await read_body(request, NamedRepo)
        caller = signed_in(request)
        named = f"{asked.type}s/{asked.organization or caller.name}/{asked.name}"
        repo = self._seen(request, named)
        if not repo.may_be_written(caller):
            raise may_not_write(f"repo {repo.id}")
        self._repos.remove(repo)
        return JSONResponse({})

    async def preupload(self, request: Request) -> Response:
        """Say how files are to be sent: here all of them in the commit."""
        repo, commit = self._commit(request, write=True)
        asked = await read_body(request, Offered)
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

    async def commit(self, request: Request) -> Response:
        """Change files, all or none; after no other commit than the one it may name."""
        repo, newest = self._commit(request, write=True)
        header, changes = changes_of(await request.body())
        if header.parent_commit not in {None, newest.oid}:
            message = "A commit has happened since. Please refresh and try again."
            raise Refusal(HTTPStatus.PRECONDITION_FAILED, message)
        files = dict(newest.files)
        for change in changes:
            match change:
                case NewFile():
                    files[change.path] = self._repos.keep(change.content)
                case Deletion():
                    if files.pop(change.path, None) is None:
                        message = f"File {change.path} not found"
                        raise Refusal(HTTPStatus.BAD_REQUEST, message)
                case FolderDeletion():
                    start = f"{change.path.rstrip('/')}/"
                    files = {path: b for path, b in files.items() if not path.startswith(start)}
        made = repo.commit(header.summary, files)
        self._repos.save()
        prefix = "" if repo.type == "model" else "datasets/"
        url = f"{hub_url(request)}/{prefix}{repo.id}/commit/{made.oid}"
        return JSONResponse({"success": True, "commitOid": made.oid, "commitUrl": url})

    async def tree(self, request: Request) -> Response:
        """List a page of a folder."""
        repo, commit = self._commit(request)
        under = request.path_params.get("path", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        shown = repo.tree(commit, under, recursive=recursive)
        if under and not shown:
            raise Refusal(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        return paged(request, shown)

    async def resolve(self, request: Request) -> Response:
        """Give a file; a large one by a link, on another host, that needs no token."""
        _, commit = self._commit(request)
        blob = commit.files.get(request.path_params["path"])
        headers = {"x-repo-commit": commit.oid}
        if blob is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "Entry not found", code="EntryNotFound")
        if blob.size < _LARGE:
            headers["etag"] = f'"{blob.oid}"'
            return FileResponse(self._repos.path(blob.sha256), headers=headers)
        headers |= {"x-linked-size": str(blob.size), "x-linked-etag": f'"{blob.sha256}"'}
        bridge = request.base_url.replace(hostname="localhost")
        where = f"{bridge}repo-bridge/{self._lend(f'{_LENT}{blob.sha256}')}"
        return RedirectResponse(where, HTTPStatus.FOUND, headers)

    async def bridge(self, request: Request) -> Response:
        """Give a file to whoever has a link to it."""
        what = self._lent(request.path_params["link"])
        if not what.startswith(_LENT):
            raise Refusal(HTTPStatus.FORBIDDEN, "The link is for something else")
        return FileResponse(self._repos.path(what.removeprefix(_LENT)))

    def _commit(self, request: Request, *, write: bool = False) -> tuple[Repo, Commit]:
        """Return what a request is about; of what is to be changed, the newest."""
        named = request.path_params
        repo = self._seen(
            request, f"{named.get('kind', 'models')}/{named['owner']}/{named['name']}"
        )
        if write and not repo.may_be_written(signed_in(request)):
            raise may_not_write(f"repo {repo.id}")
        commit = repo.at(named["revision"])
        if commit is None or (write and commit != repo.commits[-1]):
            message = f"Invalid rev id: {named['revision']}"
            raise Refusal(HTTPStatus.NOT_FOUND, message, code="RevisionNotFound")
        return repo, commit

    def _seen(self, request: Request, key: str) -> Repo:
        repo, caller = self._repos.get(key), caller_of(request)
        if repo is not None and repo.may_be_read(caller):
            return repo
        # As on the Hub, who has not signed in is not told whether that would help.
        status = HTTPStatus.UNAUTHORIZED if caller is None else HTTPStatus.NOT_FOUND
        raise Refusal(status, "Repository not found", code="RepoNotFound")
