"""Fetching what a user names on the web: what is fetched, and what is never even asked for."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from schema.specs.inputs import media_types
from tests.web import PUBLIC, Web, leads_to, no_such_name, page, public_web
from workers.inputs.url_fetcher import Fetched, FetchFailed, FetchRefused

CAT = "https://files.example.com/cat.png"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x20\0\0\0\x10\x08\x02\0\0\0" + b"\0" * 40
SOON = timedelta(seconds=5)


@pytest.fixture
async def web() -> AsyncGenerator[Web]:
    async with public_web() as opened:
        yield opened


async def fetch(web: Web, url: str = CAT, within: timedelta = SOON) -> Fetched:
    return await web.fetcher.fetch(url, limit_bytes=1000, within=within, accept=media_types.IMAGES)


async def test_a_public_file_is_fetched_as_it_is(web: Web) -> None:
    """By name over TLS, at the address that was judged, and with nobody's authority."""
    web.pages[CAT] = page(PNG, content_type="text/html")

    assert await fetch(web) == Fetched(PNG, "image/png")

    (request,) = web.requests
    assert web.asked == ["files.example.com"]
    assert web.dialed == [PUBLIC]
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers.keys() == {"host", "accept", "accept-encoding", "user-agent"}


async def test_a_redirect_is_followed_and_judged_anew(web: Web) -> None:
    """What is public may lead to what is public."""
    web.pages[CAT] = leads_to("https://cdn.example.com/a?sig=1")
    web.pages["https://cdn.example.com/a?sig=1"] = leads_to("/b")
    web.pages["https://cdn.example.com/b"] = page(PNG)

    assert (await fetch(web)).content == PNG

    assert web.asked == ["files.example.com", "cdn.example.com", "cdn.example.com"]


async def test_another_address_of_a_name_is_tried_if_the_first_takes_no_connection(
    web: Web,
) -> None:
    """A machine without IPv6 still reaches what has both."""
    web.names["files.example.com"] = ["2606:2800:21f::1", PUBLIC]
    web.unreachable.add("2606:2800:21f::1")
    web.pages[CAT] = page(PNG)

    assert (await fetch(web)).content == PNG


async def test_a_certificate_for_another_name_is_not_believed(web: Web) -> None:
    """Whoever sits at the address must be whom the URL names."""
    with pytest.raises(FetchFailed):
        await fetch(web, "https://files.example.org/cat.png")

    assert not web.requests


@pytest.mark.parametrize("status", ["503 Oops", "429 Slowly", "500 Oops"])
async def test_trouble_of_the_moment_may_be_tried_again(web: Web, status: str) -> None:
    """It says nothing against the URL."""
    web.pages[CAT] = page(PNG, status)

    with pytest.raises(FetchFailed):
        await fetch(web)


async def test_a_refused_address_reads_like_an_unknown_name(web: Web) -> None:
    """Nobody learns from us which names a private network has."""
    web.names["files.example.com"] = ["10.0.0.1"]
    with pytest.raises(FetchRefused) as private:
        await fetch(web)
    web.names["files.example.com"] = no_such_name()
    with pytest.raises(FetchRefused) as unknown:
        await fetch(web)

    assert str(private.value) == str(unknown.value)
    assert not web.dialed
