"""What workers ask the Hub about buckets; see `docs/outputs.md` for what they are used for."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import Field, TypeAdapter

from schema.accounts.vault import Secret
from schema.hub.client import HubClient, HubJson, HubRejected, parse_response

_REQUEST_TIMEOUT: Final = timedelta(seconds=15)
_NOT_FOUND: Final = 404


class RemoteBucket(HubJson):
    """What the Hub says of a bucket."""

    private: bool


class BucketEntry(HubJson):
    """A file in a bucket, or a folder."""

    type: str
    path: str
    size: Annotated[int, Field(ge=0)] = 0
    xet_hash: str | None = None
    """Says which bytes it has; there are no other revisions."""


_BUCKET_ADAPTER: Final[TypeAdapter[RemoteBucket]] = TypeAdapter(RemoteBucket)
_ENTRIES_ADAPTER: Final[TypeAdapter[list[BucketEntry]]] = TypeAdapter(list[BucketEntry])


async def get_bucket(
    hub: HubClient, name: str, token: Secret, *, timeout: timedelta
) -> RemoteBucket | None:
    """Return what is known of a bucket; none if there is none that the token may see."""
    try:
        return parse_response(
            await hub.send("GET", _bucket_url(hub, name), token, timeout=timeout), _BUCKET_ADAPTER
        )
    except HubRejected as no:
        if no.status == _NOT_FOUND:
            return None
        raise


async def create_bucket(hub: HubClient, name: str, token: Secret, *, timeout: timedelta) -> None:
    """Create a private bucket; if there is one of that name, that is unclear."""
    asked: dict[str, Literal["private"]] = {"visibility": "private"}
    await hub.send("POST", _bucket_url(hub, name), token, timeout=timeout, json=asked)


async def get_files(
    hub: HubClient, name: str, paths: Iterable[str], token: Secret
) -> list[BucketEntry]:
    """Return those of some files that a bucket has."""
    url = f"{_bucket_url(hub, name)}/paths-info"
    answer = await hub.send(
        "POST", url, token, timeout=_REQUEST_TIMEOUT, json={"paths": list(paths)}
    )
    return [entry for entry in parse_response(answer, _ENTRIES_ADAPTER) if entry.type == "file"]


async def list_files_with_prefix(
    hub: HubClient, name: str, prefix: str, token: Secret, *, max_files: int
) -> list[BucketEntry]:
    """Return the files of a bucket whose paths begin with a prefix, or the first of them."""
    url: str | None = f"{_bucket_url(hub, name)}/tree/{quote(prefix, safe='')}?recursive=true"
    found: list[BucketEntry] = []
    while url is not None and len(found) < max_files:
        try:
            page = await hub.send("GET", url, token, timeout=_REQUEST_TIMEOUT)
        except HubRejected as no:
            if no.status == _NOT_FOUND:  # as it is of repositories that lack a folder
                return found
            raise
        found += [
            entry
            for entry in parse_response(page, _ENTRIES_ADAPTER)
            if entry.type == "file" and entry.path.startswith(prefix)
        ]
        url = hub.next_page_url(page)
    return found[:max_files]


async def expect_valid_token(hub: HubClient, namespace: str, token: Secret) -> None:
    """Ask for nothing that needs a bucket.

    Raises:
        Answered4xx: of status 401, if the Hub does not take the token for anything.
    """
    url = f"{hub.url}/api/jobs/{namespace}/auth-check/read"
    await hub.send("POST", url, token, timeout=_REQUEST_TIMEOUT)


def _bucket_url(hub: HubClient, name: str) -> str:
    return f"{hub.url}/api/buckets/{name}"
