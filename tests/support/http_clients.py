"""HTTP clients of tests."""

from typing import Any

import httpx2

from schema.common.process.tls import shared_ssl_context


class HttpClient(httpx2.Client):
    """The real client; it does not parse the authorities of the system again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(verify=shared_ssl_context(), **options)


class AsyncHttpClient(httpx2.AsyncClient):
    """The same, asynchronous."""

    def __init__(self, **options: Any) -> None:
        super().__init__(verify=shared_ssl_context(), **options)


def get_once(url: str, **options: Any) -> httpx2.Response:
    """Send one GET, in a session of its own."""
    return httpx2.get(url, verify=shared_ssl_context(), **options)
