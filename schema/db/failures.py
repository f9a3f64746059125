"""What a failure of the database means for its operator, in a sentence without host or login."""

import re
import socket
import ssl
from typing import Final

import asyncpg

from schema.common.observability.causes import list_causes

TAKES_NO_WRITES: Final = "It takes no writes: it is a replica, or in the middle of a failover."
_TLS_TEXTS: Final = re.compile(r"no encryption|ssl|tls", re.IGNORECASE)
_POOLER_TEXTS: Final = re.compile(
    r"startup parameter|query_wait_timeout|server login|pgbouncer|prepared statement", re.IGNORECASE
)


def explain_database_failure(error: BaseException) -> str | None:
    """Say what has to be mended; None if the cause is of no kind that is known here."""
    return next(filter(None, map(_explain, list_causes(error))), None)


def _explain(error: BaseException) -> str | None:  # noqa: C901, PLR0911, PLR0912  # one for each cause
    text = str(error)
    match error:
        case asyncpg.InvalidPasswordError():
            return "It refuses the login or its password: mend HOLDFAST_DATABASE_URL."
        case asyncpg.InvalidAuthorizationSpecificationError() if _TLS_TEXTS.search(text):
            return "It takes no connection without TLS: add ?sslmode=require to the URL."
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "It does not let this login in from here: see its pg_hba.conf."
        case asyncpg.InvalidCatalogNameError():
            return "The server has no database of that name: create it, or mend the URL."
        case asyncpg.DiskFullError():
            return "Its disk is full: nothing can be written until there is room."
        case asyncpg.ReadOnlySQLTransactionError():
            return TAKES_NO_WRITES
        case asyncpg.TooManyConnectionsError():
            return "It has no connection left: raise max_connections, or use a pooler."
        case asyncpg.CannotConnectNowError():
            return "It is starting up or shutting down; this mends itself."
        case asyncpg.PostgresError() | asyncpg.InterfaceError() if _POOLER_TEXTS.search(text):
            return "A pooler stands between, and refuses what we ask of it: set HOLDFAST_POOLED=1."
        case socket.gaierror():
            return "Its host has no address: mend the host in the URL, or the DNS of this machine."
        case ssl.SSLCertVerificationError():
            return (
                "Its certificate is not accepted: name its authority with sslrootcert=FILE in the "
                "URL, and the host as the certificate does."
            )
        case ssl.SSLError():
            return "TLS fails between us: its certificate does not fit, or sslmode does not."
        case ConnectionError() if _TLS_TEXTS.search(text):
            return "It speaks no TLS, and the URL asks for it: mend sslmode."
        case asyncpg.TargetServerAttributeNotMatched():
            return "No server that the URL names can be written to: all are replicas."
        case ConnectionRefusedError():
            return "Nothing listens at its address: start it, or mend host and port in the URL."
        case TimeoutError():
            return "It does not answer in time: it hangs, is overloaded, or a firewall is between."
        case _:
            return None
