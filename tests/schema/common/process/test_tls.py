"""One set of certificate authorities (`shared_ssl_context`) serves every client of a process."""

import gc
import ssl
from datetime import timedelta

from schema.common.process.tls import shared_ssl_context
from schema.hub.client import open_hub_client
from schema.hub.gradio_client import open_space_session
from schema.hub.url_fetcher import Fetcher
from service.auth.jwt_verifier import open_jwt_verifier


def find_ssl_contexts() -> set[int]:
    """Return the identities of those that are in memory."""
    return {id(value) for value in gc.get_objects() if isinstance(value, ssl.SSLContext)}


async def test_no_client_loads_the_authorities_again() -> None:
    """Each would parse more than a hundred certificates: a Space call opens a client by itself."""
    shared_ssl_context()
    before = find_ssl_contexts()

    async with (
        open_hub_client("https://hub.example"),
        open_space_session("https://space.example", None),
        open_jwt_verifier(
            issuer="https://issuer.example", audiences=(), leeway=timedelta(seconds=30)
        ),
    ):
        fetcher = Fetcher()
        after = find_ssl_contexts()

    assert fetcher is not None
    assert after == before


def test_servers_are_checked() -> None:
    """The shared context is as strict as the one of a client of its own."""
    shared = shared_ssl_context()

    assert shared.verify_mode == ssl.CERT_REQUIRED
    assert shared.check_hostname
