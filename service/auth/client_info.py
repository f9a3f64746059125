"""Through which program does a call come? It names itself, and is believed for the record only."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Final

from mcp_types import CLIENT_INFO_META_KEY
from pydantic import BaseModel, Field, ValidationError

_MAX_NAME_CHARACTERS: Final = 120

CURRENT_CLIENT: Final[ContextVar[str | None]] = ContextVar("client", default=None)
"""Set at the edge for the length of one request."""


class _ClientInfo(BaseModel):
    name: str
    version: str = ""


class _Meta(BaseModel):
    client: Annotated[_ClientInfo, Field(alias=CLIENT_INFO_META_KEY)]


class _Params(BaseModel):
    meta: Annotated[_Meta, Field(alias="_meta")]


class _Request(BaseModel):
    params: _Params


@contextmanager
def bind_client(client: str | None) -> Generator[None]:
    """Say through which client what follows is called; none leaves what was said before."""
    token = CURRENT_CLIENT.set(client or CURRENT_CLIENT.get())
    try:
        yield
    finally:
        CURRENT_CLIENT.reset(token)


def read_client_info(body: bytes) -> str | None:
    """Return the client that a request of the modern protocol names, if it does."""
    if CLIENT_INFO_META_KEY.encode() not in body:
        return None
    try:
        info = _Request.model_validate_json(body).params.meta.client
    except ValidationError:
        return None
    return printable_name(f"{info.name} {info.version}")


def printable_name(name: str) -> str | None:
    """Leave out what does not print, and what is too long to be a name."""
    return "".join(filter(str.isprintable, name)).strip()[:_MAX_NAME_CHARACTERS].strip() or None
