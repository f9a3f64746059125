"""Through which program does a call come? It names itself, and is believed for the record only."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Final

from mcp_types import CLIENT_INFO_META_KEY
from pydantic import BaseModel, Field, ValidationError

_LONGEST: Final = 120

CLIENT: Final[ContextVar[str | None]] = ContextVar("client", default=None)
"""Set at the edge for the length of one request."""


class _Info(BaseModel):
    name: str
    version: str = ""


class _Meta(BaseModel):
    client: Annotated[_Info, Field(alias=CLIENT_INFO_META_KEY)]


class _Params(BaseModel):
    meta: Annotated[_Meta, Field(alias="_meta")]


class _Request(BaseModel):
    params: _Params


@contextmanager
def calling_through(client: str | None) -> Generator[None]:
    """Say through which client what follows is called; none leaves what was said before."""
    token = CLIENT.set(client or CLIENT.get())
    try:
        yield
    finally:
        CLIENT.reset(token)


def in_body(body: bytes) -> str | None:
    """Return the client that a request of the modern protocol names, if it does."""
    if CLIENT_INFO_META_KEY.encode() not in body:
        return None
    try:
        info = _Request.model_validate_json(body).params.meta.client
    except ValidationError:
        return None
    return readable(f"{info.name} {info.version}")


def readable(name: str) -> str | None:
    """Leave out what does not print, and what is too long to be a name."""
    return "".join(filter(str.isprintable, name)).strip()[:_LONGEST].strip() or None
