"""Name of the client program of a call, as it names itself; used for the audit record only."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Final

from mcp_types import CLIENT_INFO_META_KEY
from pydantic import BaseModel, Field, ValidationError

_MAX_NAME_CHARS: Final = 120

CURRENT_CLIENT: Final[ContextVar[str | None]] = ContextVar("client", default=None)
"""Set by the HTTP middleware for the length of one request."""


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
    """Set the client for the length of the block; None leaves the one that is set."""
    token = CURRENT_CLIENT.set(client or CURRENT_CLIENT.get())
    try:
        yield
    finally:
        CURRENT_CLIENT.reset(token)


def read_client_info(body: bytes) -> str | None:
    """Return the client that is named in a request of the protocol 2026-07-28, or None."""
    if CLIENT_INFO_META_KEY.encode() not in body:
        return None
    try:
        client = _Request.model_validate_json(body).params.meta.client
    except ValidationError:
        return None
    return printable_name(f"{client.name} {client.version}")


def printable_name(name: str) -> str | None:
    """Drop characters that do not print, and cut the name; None if nothing is left."""
    return "".join(filter(str.isprintable, name)).strip()[:_MAX_NAME_CHARS].strip() or None
