"""The content of buckets in the form of the Xet protocol: xorbs of chunks, and files made of them.

It implements the minimum that the real client needs. The client packs, hashes and unpacks; this
store keeps on disk what the client sends, under the hash that the client gives. On the Hub this is
a service of its own with its own tokens: each reads or writes in one bucket, for a limited time.
"""

import json
import re
import secrets
import shutil
import struct
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
from service.local.hub_emulator.shared.clock import read_unix_clock
from service.local.hub_emulator.shared.links import LinkStore

EMPTY_FILE_HASH: Final = "0" * 64
"""The hash of an empty file, which has no content to store."""
_HASH_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
_TOKEN_LIFETIME_SECONDS: Final = 3600
_MAX_XORB_BYTES: Final = 68 * 1024 * 1024
"""Limit of one xorb; the protocol allows 64 MiB of chunks."""
_CHUNK_HEADER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class XetToken:
    """A token of this service: what it may do, and until when."""

    can_write: bool
    can_read: Callable[[str], bool]
    """Says whether the token may read the file of a hash."""
    expires_at: int
    """Unix seconds."""


class XetStore:
    """The xorbs and files in a folder, and the tokens that give access to them."""

    def __init__(self, folder: Path, links: LinkStore) -> None:
        self._xorbs = folder / "xorbs"
        self._files = folder / "files"
        self._tokens: dict[str, XetToken] = {}
        self._links = links
        for subfolder in (self._xorbs, self._files):
            subfolder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Clients remember by URL what they have uploaded, and another Hub may have had this port.
        self._path = (
            f"/xet/{read_or_create_private_file(folder / 'name', lambda: secrets.token_hex(8))}"
        )

    def routes(self) -> list[Route]:
        """Return the routes of the protocol that a client needs."""
        root = self._path
        return [
            Route(f"{root}/v1/xorbs/default/{{hash}}", self._upload_xorb, methods=["POST"]),
            Route(f"{root}/v2/shards", self._upload_shard, methods=["POST"]),
            Route(f"{root}/v1/reconstructions/{{hash}}", self._get_reconstruction),
            Route("/xorbs/{link}", self._download_xorb),
        ]

    def get_url(self, hub_url: str) -> str:
        """Return the URL of this service, for a Hub at `hub_url`."""
        return f"{hub_url}{self._path}"

    def issue_token(self, *, can_write: bool, can_read: Callable[[str], bool]) -> tuple[str, int]:
        """Return a new token, and when it expires in Unix seconds."""
        now = int(read_unix_clock())
        self._tokens = {
            token: grant for token, grant in self._tokens.items() if grant.expires_at > now
        }
        token, expires_at = secrets.token_urlsafe(32), now + _TOKEN_LIFETIME_SECONDS
        self._tokens[token] = XetToken(can_write, can_read, expires_at)
        return token, expires_at

    def get_file_size(self, file_hash: str) -> int | None:
        """Return the bytes of a file; None if it was never uploaded completely."""
        if file_hash == EMPTY_FILE_HASH:
            return 0
        terms = self._load_terms(file_hash)
        return None if terms is None else sum(term.size for term in terms)

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
        file_hash = _require_hash(request)
        token = self._require_token(request, for_writing=False)
        terms = self._load_terms(file_hash) if token.can_read(file_hash) else None
        if terms is None:
            raise HubApiError(HTTPStatus.NOT_FOUND, "There is no such file")
        first, last = _parse_range(request, sum(term.size for term in terms))
        skipped_bytes, selected = _select_terms(terms, first, last)
        hub_url = get_hub_url(request)
        return JSONResponse(
            {
                "offset_into_first_range": skipped_bytes,
                "terms": [
                    {
                        "hash": term.xorb,
                        "unpacked_length": term.size,
                        "range": {"start": term.first, "end": term.end},
                    }
                    for term in selected
                ],
                "fetch_info": {
                    xorb: [self._build_fetch_info(xorb, hub_url)]
                    for xorb in {term.xorb for term in selected}
                },
            }
        )

    async def _download_xorb(self, request: Request) -> Response:
        # The link is the authority, as a signed URL is; the client sends no token here.
        xorb = self._links.resolve(request.path_params["link"])
        return FileResponse(self._xorbs / xorb, media_type="application/octet-stream")

    def _build_fetch_info(self, xorb_hash: str, hub_url: str) -> dict[str, Any]:
        """Describe where a client fetches a whole xorb."""
        chunks, size = _count_chunks(self._xorbs / xorb_hash)
        return {
            "range": {"start": 0, "end": chunks},
            "url": f"{hub_url}/xorbs/{self._links.create(xorb_hash)}",
            "url_range": {"start": 0, "end": size - 1},
        }

    def _load_terms(self, file_hash: str) -> list[XetTerm] | None:
        path = self._files / file_hash
        if not path.exists():
            return None
        return [XetTerm(**term) for term in json.loads(path.read_bytes())]

    def _require_token(self, request: Request, *, for_writing: bool) -> XetToken:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self._tokens.get(bearer)
        if token is None or token.expires_at <= read_unix_clock():
            raise HubApiError(HTTPStatus.UNAUTHORIZED, "Invalid token")
        if for_writing and not token.can_write:
            raise HubApiError(HTTPStatus.FORBIDDEN, "This token may not write")
        return token


def _require_hash(request: Request) -> str:
    content_hash: str = request.path_params["hash"]
    if not _HASH_PATTERN.fullmatch(content_hash):
        raise HubApiError(HTTPStatus.BAD_REQUEST, "Not a hash")
    return content_hash


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that nobody reads half of it, also while another request writes it."""
    draft = path.with_suffix(f".{secrets.token_hex(4)}")
    draft.write_bytes(content)
    shutil.move(draft, path)


def _count_chunks(path: Path) -> tuple[int, int]:
    """Count the chunks of a xorb, and their bytes including each chunk's header."""
    packed, offset, count = path.read_bytes(), 0, 0
    # A header is a version, which is 0, two lengths of three bytes each, and a scheme between them.
    # After the last chunk follows an index, which does not begin with 0.
    while offset + _CHUNK_HEADER_BYTES <= len(packed) and packed[offset] == 0:
        (length,) = struct.unpack("<I", packed[offset + 1 : offset + 4] + b"\0")
        offset += _CHUNK_HEADER_BYTES + length
        count += 1
    return count, offset


def _parse_range(request: Request, size: int) -> tuple[int, int]:
    """Return the offsets of the first and the last byte that the request asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "bytes=0-"))
    if match is None or int(match[1]) >= size:
        raise HubApiError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "Out of range")
    return int(match[1]), min(int(match[2] or size), size - 1)


def _select_terms(terms: list[XetTerm], first: int, last: int) -> tuple[int, list[XetTerm]]:
    """Return the terms of a byte range, and how many bytes of the first term precede the range."""
    offset, skipped_bytes, selected = 0, 0, list[XetTerm]()
    for term in terms:
        if offset <= last and offset + term.size > first:
            skipped_bytes = skipped_bytes if selected else max(0, first - offset)
            selected.append(term)
        offset += term.size
    return skipped_bytes, selected
