"""A Redis URL as managed services write it, for our clients and for arq.

Both take fewer forms than services print: redis-py passes a parameter that it does not know to the
connection, which fails with a TypeError; arq decodes no password, and ignores every parameter.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection

from schema.common.urls.parts import split_url

EXAMPLE: Final = "redis://host:6379/0"

_DEFAULT_PORT: Final = 6379
_TLS_SCHEMES: Final = frozenset({"rediss", "valkeys"})
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_PARAMETERS: Final = frozenset({*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname"})
_VERIFICATIONS: Final = ("none", "optional", "required")
_UNUSED_PARAMETERS: Final = frozenset(
    {
        # Each of our clients has timeouts and limits of its own.
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "timeout"),
        *("retry_on_timeout", "health_check_interval", "max_connections", "client_name"),
        *("protocol", "decode_responses", "encoding", "family"),
    }
)
"""Nothing is lost without these."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """What a URL names: one database of one server."""

    host: str
    port: int
    socket: str | None
    """The path of a Unix socket, which replaces the host."""
    database: int
    user: str | None
    password: str | None = field(repr=False)
    tls: Mapping[str, Any] | None
    """The arguments of a connection by TLS; None without TLS."""

    def connection_arguments(self) -> dict[str, Any]:
        """Return the arguments of a pool of redis-py."""
        login = {"db": self.database, "username": self.user, "password": self.password}
        if self.socket is not None:
            return {"connection_class": UnixDomainSocketConnection, "path": self.socket, **login}
        place = {"host": self.host, "port": self.port}
        if self.tls is None:
            return {"connection_class": Connection, **place, **login}
        return {"connection_class": SSLConnection, **place, **login, **self.tls}


def parse_redis_url(text: str) -> RedisServer:
    """Read a URL of Redis or Valkey.

    Raises:
        ValueError: with a sentence that says what to write, and never repeats a password.
    """
    schemes = ("redis", "rediss", "valkey", "valkeys", "unix")
    parts = split_url(text, schemes=schemes, example=EXAMPLE)
    parameters = parts.parameters
    known = {"db", *_UNUSED_PARAMETERS, *(_TLS_PARAMETERS if parts.scheme in _TLS_SCHEMES else ())}
    for name in parameters:
        if name in _TLS_PARAMETERS and name not in known:
            message = f"{name} needs TLS: write rediss:// in the place of {parts.scheme}://"
            raise ValueError(message)
        if name not in known:
            message = f"the parameter {name} is not supported; remove it"
            raise ValueError(message)
    if len(parts.hosts) > 1:
        message = "Redis is one server; write one host, that of the primary or of its proxy"
        raise ValueError(message)
    is_socket = parts.scheme == "unix"
    database = parameters.get("db") or ("" if is_socket else parts.path) or "0"
    if not (database.isascii() and database.isdigit()):
        message = f"the database of Redis is a number, such as in {EXAMPLE}"
        raise ValueError(message)
    host, port = (*parts.hosts, ("localhost", None))[0]
    return RedisServer(
        host=host,
        port=port or _DEFAULT_PORT,
        socket=f"/{parts.path}" if is_socket else None,
        database=int(database),
        user=parts.user,
        password=parts.password or None,
        tls=_read_tls(parameters) if parts.scheme in _TLS_SCHEMES else None,
    )


def check_redis_url(text: str) -> str:
    """Return a URL of Redis, or refuse it.

    Raises:
        ValueError: as `parse_redis_url` says.
    """
    parse_redis_url(text)
    return text.strip()


def _read_tls(parameters: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: parameters[name] for name in _TLS_FILES if parameters.get(name)}
    for name, path in tls.items():
        if not os.access(path, os.R_OK):
            message = f"the file of {name} cannot be read: {path}"
            raise ValueError(message)
    # Celery writes CERT_NONE.
    verification = parameters.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verification not in _VERIFICATIONS:
        message = f"ssl_cert_reqs must be one of {', '.join(_VERIFICATIONS)}"
        raise ValueError(message)
    checks = parameters.get("ssl_check_hostname", "").lower()
    if checks not in {"", "true", "false"}:
        message = "ssl_check_hostname must be true or false"
        raise ValueError(message)
    # Without the name of the host, anybody with any valid certificate could be in the middle;
    # redis-py 5 does not compare it unless it is told to.
    tls["ssl_check_hostname"] = checks == "true" or (not checks and verification == "required")
    if verification == "none" and tls["ssl_check_hostname"]:
        message = "ssl_check_hostname=true needs ssl_cert_reqs=required"
        raise ValueError(message)
    return tls | {"ssl_cert_reqs": verification}
