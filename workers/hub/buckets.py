"""What workers ask the Hub about buckets; see `docs/outputs.md` for what they are used for."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from schema.accounts.vault import Secret
from workers.hub.client import Answered4xx, Hub, read

_WITHIN: Final = timedelta(seconds=15)
_NOT_FOUND: Final = 404


class _Described(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Bucket(_Described):
    """What the Hub says of a bucket."""

    private: bool


class Entry(_Described):
    """A file in a bucket, or a folder."""

    type: str
    path: str
    size: Annotated[int, Field(ge=0)] = 0
    xet_hash: str | None = None
    """Says which bytes it has; there are no other revisions."""


_BUCKET: Final[TypeAdapter[Bucket]] = TypeAdapter(Bucket)
_ENTRIES: Final[TypeAdapter[list[Entry]]] = TypeAdapter(list[Entry])


async def bucket(hub: Hub, name: str, token: Secret, *, within: timedelta) -> Bucket | None:
    """Return what is known of a bucket; none if there is none that the token may see."""
    try:
        return read(await hub.send("GET", _url(hub, name), token, within=within), _BUCKET)
    except Answered4xx as no:
        if no.status == _NOT_FOUND:
            return None
        raise


async def create(hub: Hub, name: str, token: Secret, *, within: timedelta) -> None:
    """Create a private bucket; if there is one of that name, that is unclear."""
    asked: dict[str, Literal["private"]] = {"visibility": "private"}
    await hub.send("POST", _url(hub, name), token, within=within, json=asked)


async def files(hub: Hub, name: str, paths: Iterable[str], token: Secret) -> list[Entry]:
    """Return those of some files that a bucket has."""
    url = f"{_url(hub, name)}/paths-info"
    answer = await hub.send("POST", url, token, within=_WITHIN, json={"paths": list(paths)})
    return [entry for entry in read(answer, _ENTRIES) if entry.type == "file"]


async def files_under(hub: Hub, name: str, prefix: str, token: Secret, *, most: int) -> list[Entry]:
    """Return the files of a bucket whose paths begin with a prefix, or the first of them."""
    url: str | None = f"{_url(hub, name)}/tree/{quote(prefix, safe='')}?recursive=true"
    found: list[Entry] = []
    while url is not None and len(found) < most:
        try:
            page = await hub.send("GET", url, token, within=_WITHIN)
        except Answered4xx as no:
            if no.status == _NOT_FOUND:  # as it is of repositories that lack a folder
                return found
            raise
        found += [
            entry
            for entry in read(page, _ENTRIES)
            if entry.type == "file" and entry.path.startswith(prefix)
        ]
        url = hub.next_page(page)
    return found[:most]


async def expect_alive(hub: Hub, namespace: str, token: Secret) -> None:
    """Ask for nothing that needs a bucket.

    Raises:
        Answered4xx: of status 401, if the Hub does not take the token for anything.
    """
    url = f"{hub.url}/api/jobs/{namespace}/auth-check/read"
    await hub.send("POST", url, token, within=_WITHIN)


def _url(hub: Hub, name: str) -> str:
    return f"{hub.url}/api/buckets/{name}"
