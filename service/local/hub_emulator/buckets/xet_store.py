"""The content of buckets, as the Xet protocol keeps it: xorbs of chunks, and files made of them.

The least that the real client is content with: it packs, hashes and unpacks, and here is only kept
what it sends, on disk, under the hash it gives. On the Hub this is a service of its own, which
takes tokens of its own: each is for reading or for writing in one bucket, for a while.
"""

import json
import re
import secrets
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from service.local.data_dir import read_or_create_private_file
from service.local.hub_emulator.buckets.xet_shards import InvalidShard, XetTerm, parse_shard
from service.local.hub_emulator.current_user import get_hub_url
from service.local.hub_emulator.errors import HubApiError

EMPTY_FILE_HASH: Final = "0" * 64
"""The hash of a file without bytes, which has no content to keep."""
_HASH_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
_TOKEN_LIFETIME_SECONDS: Final = 3600
_MAX_XORB_BYTES: Final = 68 * 1024 * 1024
"""Bytes of one xorb; the protocol's limit is 64 MiB of chunks."""
_CHUNK_HEADER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class XetToken:
    """A token of this service: what it is for, and until when."""

    can_write: bool
    can_read: Callable[[str], bool]
    """Whether it may read the file of a hash."""
    expires_at: int


class XetStore:
    """Xorbs and files, in a folder, and who may have them."""

    def __init__(self, folder: Path) -> None:
        self._xorbs = folder / "xorbs"
        self._files = folder / "files"
        self._tokens: dict[str, XetToken] = {}
        self._links: dict[str, tuple[str, float]] = {}
        for each in (self._xorbs, self._files):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Clients remember by address what is there already, and at this one may be another Hub.
        self._path = (
            f"/xet/{read_or_create_private_file(folder / 'name', lambda: secrets.token_hex(8))}"
        )

    def routes(self) -> list[Route]:
        """List the endpoints of the protocol that a client cannot do without."""
        of_service = self._path
        return [
            Route(f"{of_service}/v1/xorbs/default/{{hash}}", self._upload_xorb, methods=["POST"]),
            Route(f"{of_service}/v2/shards", self._upload_shard, methods=["POST"]),
            Route(f"{of_service}/v1/reconstructions/{{hash}}", self._get_reconstruction),
            Route("/xorbs/{link}", self._download_xorb),
        ]

    def get_url(self, hub_url: str) -> str:
        """Return where this service is, of the Hub at a URL."""
        return f"{hub_url}{self._path}"

    def issue_token(self, *, can_write: bool, can_read: Callable[[str], bool]) -> tuple[str, int]:
        """Return a new token, and when it expires."""
        now = int(time.time())
        self._tokens = {
            token: each for token, each in self._tokens.items() if each.expires_at > now
        }
        token, expires_at = secrets.token_urlsafe(32), now + _TOKEN_LIFETIME_SECONDS
        self._tokens[token] = XetToken(can_write, can_read, expires_at)
        return token, expires_at

    def get_file_size(self, file_hash: str) -> int | None:
        """Return how many bytes a file has; none if it was never uploaded whole."""
        if file_hash == EMPTY_FILE_HASH:
            return 0
        terms = self._load_terms(file_hash)
        return None if terms is None else sum(term.size for term in terms)

    def create_link(self, target: str) -> str:
        """Return a link under which something can be had for a while, without a token."""
        now = time.time()
        self._links = {link: each for link, each in self._links.items() if each[1] > now}
        link = secrets.token_urlsafe(24)
        self._links[link] = (target, now + _TOKEN_LIFETIME_SECONDS)
        return link

    def resolve_link(self, link: str) -> str:
        """Return what can be had under a link.

        Raises:
            Refusal: nothing, or nothing any more.
        """
        what, until = self._links.get(link, ("", 0.0))
        if until < time.time():
            raise HubApiError(HTTPStatus.FORBIDDEN, "The link has expired")
        return what

    async def _upload_xorb(self, request: Request) -> Response:
        self._require_token(request, for_writing=True)
        xorb = _require_hash(request)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _MAX_XORB_BYTES:
                raise HubApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The xorb is too large")
        path = self._xorbs / xorb
        is_new = not path.exists()
        _write_atomically(path, bytes(body))
        return JSONResponse({"was_inserted": is_new})

    async def _upload_shard(self, request: Request) -> Response:
        self._require_token(request, for_writing=True)
        try:
            files = list(parse_shard(await request.body()))
        except InvalidShard as error:
            raise HubApiError(HTTPStatus.BAD_REQUEST, str(error)) from None
        for _, terms in files:
            for term in terms:
                if not (self._xorbs / term.xorb).exists():
                    raise HubApiError(HTTPStatus.BAD_REQUEST, f"There is no xorb {term.xorb}")
        for file, terms in files:
            _write_atomically(
                self._files / file, json.dumps([asdict(term) for term in terms]).encode()
            )
        return Response('{"type":"result","result":1}\n', media_type="application/x-ndjson")

    async def _get_reconstruction(self, request: Request) -> Response:
        file = _require_hash(request)
        shown = self._require_token(request, for_writing=False)
        terms = self._load_terms(file) if shown.can_read(file) else None
        if terms is None:
            raise HubApiError(HTTPStatus.NOT_FOUND, "There is no such file")
        first, last = _parse_range(request, sum(term.size for term in terms))
        skipped, chosen = _select_terms(terms, first, last)
        base = get_hub_url(request)
        return JSONResponse(
            {
                "offset_into_first_range": skipped,
                "terms": [
                    {
                        "hash": term.xorb,
                        "unpacked_length": term.size,
                        "range": {"start": term.first, "end": term.end},
                    }
                    for term in chosen
                ],
                "fetch_info": {
                    xorb: [self._build_fetch_info(xorb, base)]
                    for xorb in {term.xorb for term in chosen}
                },
            }
        )

    async def _download_xorb(self, request: Request) -> Response:
        # The link is the authority, as that of a signed URL is; the client shows no token here.
        xorb = self.resolve_link(request.path_params["link"])
        return FileResponse(self._xorbs / xorb, media_type="application/octet-stream")

    def _build_fetch_info(self, xorb_hash: str, hub_url: str) -> dict[str, Any]:
        """Say where all of a xorb can be fetched."""
        chunks, size = _count_chunks(self._xorbs / xorb_hash)
        return {
            "range": {"start": 0, "end": chunks},
            "url": f"{hub_url}/xorbs/{self.create_link(xorb_hash)}",
            "url_range": {"start": 0, "end": size - 1},
        }

    def _load_terms(self, file_hash: str) -> list[XetTerm] | None:
        path = self._files / file_hash
        if not path.exists():
            return None
        return [XetTerm(**term) for term in json.loads(path.read_bytes())]

    def _require_token(self, request: Request, *, for_writing: bool) -> XetToken:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        shown = self._tokens.get(token)
        if shown is None or shown.expires_at <= time.time():
            raise HubApiError(HTTPStatus.UNAUTHORIZED, "Invalid token")
        if for_writing and not shown.can_write:
            raise HubApiError(HTTPStatus.FORBIDDEN, "This token may not write")
        return shown


def _require_hash(request: Request) -> str:
    named: str = request.path_params["hash"]
    if not _HASH_PATTERN.fullmatch(named):
        raise HubApiError(HTTPStatus.BAD_REQUEST, "Not a hash")
    return named


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
    unfinished.write_bytes(content)
    shutil.move(unfinished, path)


def _count_chunks(path: Path) -> tuple[int, int]:
    """Count the chunks of a xorb, and their bytes, what stands before each included."""
    packed, at, count = path.read_bytes(), 0, 0
    # Version and scheme frame the two lengths of three bytes each; what comes last is an index.
    while at + _CHUNK_HEADER_BYTES <= len(packed) and packed[at] == 0:
        (length,) = struct.unpack("<I", packed[at + 1 : at + 4] + b"\0")
        at += _CHUNK_HEADER_BYTES + length
        count += 1
    return count, at


def _parse_range(request: Request, size: int) -> tuple[int, int]:
    """Return the first byte that is wanted, and the last."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "bytes=0-"))
    if asked is None or int(asked[1]) >= size:
        raise HubApiError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "Out of range")
    return int(asked[1]), min(int(asked[2] or size), size - 1)


def _select_terms(terms: list[XetTerm], first: int, last: int) -> tuple[int, list[XetTerm]]:
    """Return the terms that have bytes of a range, and what of the first lies before it."""
    at, skipped, chosen = 0, 0, list[XetTerm]()
    for term in terms:
        if at <= last and at + term.size > first:
            skipped = skipped if chosen else max(0, first - at)
            chosen.append(term)
        at += term.size
    return skipped, chosen
