"""What a failure of Redis means for its operator, in a sentence without host or login."""

import socket
import ssl

from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError

from schema.common.observability.causes import list_causes


def explain_redis_failure(error: BaseException) -> str | None:
    """Say what has to be mended; None if the cause is of no kind that is known here."""
    return next(filter(None, map(_explain, list_causes(error))), None)


def _explain(error: BaseException) -> str | None:  # noqa: PLR0911  # one for each cause
    match error:
        case AuthenticationError() | NoPermissionError():
            return "It refuses the login or its password: mend HOLDFAST_REDIS_URL."
        case ReadOnlyError():
            return "It takes no writes: it is a replica, or in the middle of a failover."
        case ResponseError() if str(error).startswith("OOM"):
            return "Its memory is full: raise maxmemory, or let it evict."
        case socket.gaierror():
            return "Its host has no address: mend the host in the URL, or the DNS of this machine."
        case ssl.SSLError():
            return "TLS fails between us: write rediss:// if it speaks TLS, and redis:// if not."
        case ConnectionRefusedError():
            return "Nothing listens at its address: start it, or mend host and port in the URL."
        case TimeoutError():
            return "It does not answer in time: it hangs, or a firewall is between."
        case _:
            return None
