"""Requests to the Hub about buckets; `docs/outputs.md` says what buckets are used for."""

from collections.abc import Iterable
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import Field, TypeAdapter

from schema.accounts.vault import Secret
from schema.hub.client import HubClient, HubJson, HubRejected, parse_response

_REQUEST_TIMEOUT: Final = timedelta(seconds=15)


class RemoteBucket(HubJson):
    """A bucket, as the Hub describes it."""

    private: bool


class BucketEntry(HubJson):
    """A file in a bucket, or a folder."""

    type: str
    path: str
    size: Annotated[int, Field(ge=0)] = 0
    xet_hash: str | None = None
    """Identifies its content; a bucket has no other revisions."""


_BUCKET_ADAPTER: Final[TypeAdapter[RemoteBucket]] = TypeAdapter(RemoteBucket)
_ENTRIES_ADAPTER: Final[TypeAdapter[list[BucketEntry]]] = TypeAdapter(list[BucketEntry])


async def get_bucket(
    hub: HubClient, name: str, token: Secret, *, timeout: timedelta
) -> RemoteBucket | None:
    """Return a bucket; None if the token can see no such bucket."""
    try:
        return parse_response(
            await hub.send("GET", _bucket_url(hub, name), token, timeout=timeout), _BUCKET_ADAPTER
        )
    except HubRejected as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


async def create_bucket(hub: HubClient, name: str, token: Secret, *, timeout: timedelta) -> None:
    """Create a private bucket; if the name is taken, the Hub's answer is ambiguous."""
    body: dict[str, Literal["private"]] = {"visibility": "private"}
    await hub.send("POST", _bucket_url(hub, name), token, timeout=timeout, json=body)


async def get_files(
    hub: HubClient, name: str, paths: Iterable[str], token: Secret
) -> list[BucketEntry]:
    """Return those of the named files that exist in a bucket."""
    url = f"{_bucket_url(hub, name)}/paths-info"
    response = await hub.send(
        "POST", url, token, timeout=_REQUEST_TIMEOUT, json={"paths": list(paths)}
    )
    return [entry for entry in parse_response(response, _ENTRIES_ADAPTER) if entry.type == "file"]


async def list_files_with_prefix(
    hub: HubClient, name: str, prefix: str, token: Secret, *, max_files: int
) -> list[BucketEntry]:
    """Return the files of a bucket whose paths begin with a prefix, at most `max_files`."""
    url: str | None = f"{_bucket_url(hub, name)}/tree/{quote(prefix, safe='')}?recursive=true"
    files: list[BucketEntry] = []
    while url is not None and len(files) < max_files:
        try:
            page = await hub.send("GET", url, token, timeout=_REQUEST_TIMEOUT)
        except HubRejected as error:
            if error.status == HTTPStatus.NOT_FOUND:  # as for a repository without this folder
                return files
            raise
        files += [
            entry
            for entry in parse_response(page, _ENTRIES_ADAPTER)
            if entry.type == "file" and entry.path.startswith(prefix)
        ]
        url = hub.next_page_url(page)
    return files[:max_files]


async def expect_valid_token(hub: HubClient, namespace: str, token: Secret) -> None:
    """Check that the Hub accepts a token at all, without a bucket.

    Raises:
        HubRejected: with status 401, if the Hub does not accept the token.
    """
    url = f"{hub.url}/api/jobs/{namespace}/auth-check/read"
    await hub.send("POST", url, token, timeout=_REQUEST_TIMEOUT)


def _bucket_url(hub: HubClient, name: str) -> str:
    return f"{hub.url}/api/buckets/{name}"
