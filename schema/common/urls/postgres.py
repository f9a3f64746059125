"""A Postgres URL as libpq and managed services write it, and connections to what it names.

asyncpg takes most parameters of libpq, and sends those that it does not know to the server, which
refuses them. So each parameter is known here: it goes to asyncpg, is kept in another way, is of no
use to us, or is refused because ignoring it would weaken what was asked for.

Several hosts are tried in order, each for its own time: asyncpg itself would wait for a host that
swallows packets until the time for all of them has passed. The next connection begins with the host
that answered last.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg

from schema.common.urls.parts import UrlParts, parse_port, split_host, split_url

EXAMPLE: Final = "postgresql://user:password@host/database"

_TLS_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_DRIVER_PARAMETERS: Final = frozenset(
    {
        "sslmode",
        *_TLS_FILES,
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "passfile",
        "service",
        "krbsrvname",
        "gsslib",
    }
)
"""What asyncpg does with these is what libpq does."""
_OWN_PARAMETERS: Final = frozenset(
    {
        *("host", "port", "user", "password", "dbname", "options", "ssl"),
        *("connect_timeout", "channel_binding", "target_session_attrs", "schema", "gssencmode"),
    }
)
_UNUSED_PARAMETERS: Final = frozenset(
    {
        # We name our connections ourselves: `doctor` counts workers by their names.
        *("application_name", "fallback_application_name"),
        "client_encoding",  # always UTF-8
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        "tcp_user_timeout",
        *("sslcompression", "sslsni"),  # never compressed; the name is always sent
        "load_balance_hosts",
        *("pgbouncer", "connection_limit", "pool_timeout"),  # Prisma's, about its own pool
        "supa",  # says where the URL was copied
    }
)
"""Nothing is lost without these."""
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_WRITABLE: Final = ("any", "primary", "read-write")
_SYSTEM: Final = "system"
"""The value of `sslrootcert` for the authorities that this machine trusts."""

_NEXT_HOST_ERRORS: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


@dataclass(slots=True)
class PostgresServer:
    """What a URL names: one database, on one server or on several that replicate it."""

    _hosts: tuple[tuple[str, int | None], ...]
    """Empty: asyncpg looks where libpq would, at `PGHOST` and the usual sockets."""
    _login: Mapping[str, Any] = field(repr=False)
    _parameters: Mapping[str, str] = field(repr=False)
    """What asyncpg reads from a URL."""
    _tls_context: ssl.SSLContext | None
    """For the authorities that this machine trusts; else the parameters say how to use TLS."""
    _options: str | None
    _connect_timeout: timedelta | None
    """For each host; None: the caller decides."""
    _last_host: int = 0

    def total_timeout(self, default: timedelta) -> timedelta:
        """Return how long `connect` may take at most; `default` if the URL says nothing."""
        if self._connect_timeout is None:
            return default
        return self._connect_timeout * max(1, len(self._hosts))

    async def connect(
        self,
        *,
        timeout: timedelta,
        server_settings: Mapping[str, str],
        **options: Any,
    ) -> asyncpg.Connection:
        """Connect to the first host that answers and can be written to.

        Args:
            timeout: for all hosts together, unless the URL has a `connect_timeout`.
            server_settings: the start-up parameters; they win over those of the URL.
            options: for asyncpg.

        Raises:
            OSError: no host can be reached.
            asyncpg.PostgresError: the server refuses the login.
        """
        settings = {**({"options": self._options} if self._options else {}), **server_settings}
        count = max(1, len(self._hosts))
        seconds = self.total_timeout(timeout).total_seconds() / count
        problem: Exception | None = None
        for number in (*range(self._last_host, count), *range(self._last_host)):
            try:
                connection: asyncpg.Connection = await asyncpg.connect(
                    f"postgresql:///?{urlencode(self._parameters)}",
                    **self._address(number),
                    **self._login,
                    ssl=self._tls_context,
                    timeout=seconds,
                    server_settings=settings,
                    **options,
                )
            except _NEXT_HOST_ERRORS as error:
                problem = error
            else:
                self._last_host = number
                return connection
        assert problem is not None  # noqa: S101  # there is one host at least
        raise problem

    def _address(self, number: int) -> dict[str, Any]:
        if not self._hosts:
            return {}
        host, port = self._hosts[number]
        return {"host": host} if port is None else {"host": host, "port": port}


def parse_postgres_url(text: str) -> PostgresServer:
    """Read a URL of Postgres.

    Raises:
        ValueError: with a sentence that says what to write, and never repeats a password.
    """
    parts = split_url(text, schemes=("postgresql", "postgres"), example=EXAMPLE)
    parameters = parts.parameters
    _refuse_unknown(parameters)
    hosts = _find_hosts(parts)
    mode, tls = _find_tls(parameters)
    if parameters.get("channel_binding") == "require" and any(
        host.startswith("/") for host, _ in hosts
    ):
        message = "channel_binding=require needs TLS, which a socket does not have; remove it"
        raise ValueError(message)
    context = None
    if tls.get("sslrootcert") == _SYSTEM:
        context, tls = _trust_system(tls), {}
    elif mode is not None:
        tls["sslmode"] = mode
    login = {
        "user": parameters.get("user") or parts.user,
        "password": parameters.get("password") or parts.password,
        "database": parameters.get("dbname") or parts.path,
    }
    attributes = parameters.get("target_session_attrs")
    if attributes is not None and attributes not in _WRITABLE:
        message = (
            "Holdfast writes, so target_session_attrs cannot be a standby or read-only server; "
            "write target_session_attrs=read-write"
        )
        raise ValueError(message)
    if attributes is None and len(hosts) > 1:
        # A server and those that replicate it: only one of them can be written to.
        attributes = "read-write"
    return PostgresServer(
        _hosts=hosts,
        _login={name: value for name, value in login.items() if value},
        _parameters=tls | ({"target_session_attrs": attributes} if attributes else {}),
        _tls_context=context,
        _options=parameters.get("options"),
        _connect_timeout=_parse_timeout(parameters.get("connect_timeout")),
    )


def check_postgres_url(text: str) -> str:
    """Return a URL of Postgres, or refuse it.

    Raises:
        ValueError: as `parse_postgres_url` says.
    """
    parse_postgres_url(text)
    return text.strip()


def _refuse_unknown(parameters: Mapping[str, str]) -> None:
    for name in parameters:
        if name not in _DRIVER_PARAMETERS | _OWN_PARAMETERS | _UNUSED_PARAMETERS:
            message = (
                f"the parameter {name} is not supported; remove it, or write a setting of the "
                "server as options=-c%20NAME%3DVALUE"
            )
            raise ValueError(message)
    if parameters.get("schema", "public") != "public":
        message = "Holdfast keeps its tables in the schema public; remove the parameter schema"
        raise ValueError(message)
    if parameters.get("gssencmode") == "require":
        message = "gssencmode=require is not supported; encrypt by TLS with sslmode=require"
        raise ValueError(message)


def _find_hosts(parts: UrlParts) -> tuple[tuple[str, int | None], ...]:
    hosts = parts.hosts
    if named := parts.parameters.get("host"):
        hosts = tuple(split_host(host) for host in named.split(","))
    if not (listed := parts.parameters.get("port")):
        return hosts
    ports = [parse_port(port) for port in listed.split(",")]
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        message = "the parameter port has another number of ports than there are hosts"
        raise ValueError(message)
    return tuple((host, port) for (host, _), port in zip(hosts, ports, strict=True))


def _find_tls(parameters: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """Return the mode and asyncpg's parameters, with the authority that verifies the server."""
    tls = {name: value for name, value in parameters.items() if name in _DRIVER_PARAMETERS}
    if parameters.get("ssl", "true") not in {"true", "false"}:
        message = "ssl must be true or false; or write sslmode=require"
        raise ValueError(message)
    mode = tls.pop("sslmode", "require" if parameters.get("ssl") == "true" else None)
    if mode is not None and mode not in _TLS_MODES:
        message = f"sslmode must be one of {', '.join(_TLS_MODES)}"
        raise ValueError(message)
    authority = tls.get("sslrootcert")
    binding = parameters.get("channel_binding", "prefer")
    if binding not in {"disable", "prefer", "require"}:
        message = "channel_binding must be one of disable, prefer, require"
        raise ValueError(message)
    if binding == "require":
        if mode == "disable":
            message = "channel_binding=require needs TLS, and sslmode=disable forbids it"
            raise ValueError(message)
        mode = "verify-full"
    if authority == _SYSTEM:
        if mode not in {None, "verify-full"}:
            message = (
                "sslrootcert=system needs sslmode=verify-full, or anybody's certificate will do"
            )
            raise ValueError(message)
        mode = "verify-full"
    if authority is None and mode in {"verify-ca", "verify-full"} and not _has_own_authority():
        if mode == "verify-ca":
            message = "sslmode=verify-ca needs sslrootcert=FILE; or write sslmode=verify-full"
            raise ValueError(message)
        tls["sslrootcert"] = _SYSTEM
    _check_files(tls)
    return mode, tls


def _has_own_authority() -> bool:
    """Say whether libpq would find the certificate of an authority without being told."""
    return Path("~/.postgresql/root.crt").expanduser().is_file()


def _check_files(tls: Mapping[str, str]) -> None:
    for name in _TLS_FILES:
        path = tls.get(name)
        if (
            path
            and not (name == "sslrootcert" and path == _SYSTEM)
            and not os.access(path, os.R_OK)
        ):
            message = f"the file of {name} cannot be read: {path}"
            raise ValueError(message)


def _trust_system(tls: Mapping[str, str]) -> ssl.SSLContext:
    """Verify the server by the authorities of this machine, which asyncpg does not offer."""
    if "sslcrl" in tls:
        message = "sslcrl needs the certificate of the authority: write sslrootcert=FILE too"
        raise ValueError(message)
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])  # which direct negotiation requires
    try:
        if certificate := tls.get("sslcert"):
            context.load_cert_chain(
                certificate, tls.get("sslkey"), password=lambda: tls.get("sslpassword", "")
            )
        if lowest := tls.get("ssl_min_protocol_version"):
            context.minimum_version = ssl.TLSVersion[lowest.replace(".", "_")]
        if highest := tls.get("ssl_max_protocol_version"):
            context.maximum_version = ssl.TLSVersion[highest.replace(".", "_")]
    except ssl.SSLError:
        message = "the certificate of sslcert and the key of sslkey do not fit, or are no PEM files"
        raise ValueError(message) from None
    except KeyError:
        message = "a TLS version is written TLSv1.2 or TLSv1.3"
        raise ValueError(message) from None
    return context


def _parse_timeout(text: str | None) -> timedelta | None:
    if not text:
        return None
    try:
        seconds = int(text)
    except ValueError:
        message = "connect_timeout must be a number of seconds"
        raise ValueError(message) from None
    return timedelta(seconds=seconds) if seconds > 0 else None
