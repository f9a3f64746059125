"""The certificate authorities that HTTP clients of this process trust, loaded once."""

import ssl
from functools import cache

import httpx2


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the context that every client of this process takes; nobody changes it.

    By default each client parses all authorities of the system, which takes some 30 ms.
    """
    return httpx2.create_ssl_context()
