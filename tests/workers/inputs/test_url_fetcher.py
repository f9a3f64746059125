"""Fetching what a user names on the web: what is fetched, and what is never even asked for."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from schema.hub.url_fetcher import FetchedFile, FetchFailed, FetchRefused
from schema.specs.inputs import media_types
from tests.support.fake_web import (
    PUBLIC_ADDRESS,
    FakeWeb,
    name_not_found,
    raw_response,
    redirect_response,
    run_fake_web,
)

CAT_URL = "https://files.example.com/cat.png"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x20\0\0\0\x10\x08\x02\0\0\0" + b"\0" * 40
TIMEOUT = timedelta(seconds=5)


@pytest.fixture
async def fake_web() -> AsyncGenerator[FakeWeb]:
    async with run_fake_web() as opened:
        yield opened


async def fetch(web: FakeWeb, url: str = CAT_URL, within: timedelta = TIMEOUT) -> FetchedFile:
    return await web.fetcher.fetch(url, max_bytes=1000, timeout=within, accept=media_types.IMAGES)


async def test_a_public_file_is_fetched_as_it_is(fake_web: FakeWeb) -> None:
    """By name over TLS, at the address that was judged, and with nobody's authority."""
    fake_web.pages[CAT_URL] = raw_response(PNG, content_type="text/html")

    assert await fetch(fake_web) == FetchedFile(PNG, "image/png")

    (request,) = fake_web.requests
    assert fake_web.resolved_names == ["files.example.com"]
    assert fake_web.dialed_addresses == [PUBLIC_ADDRESS]
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers.keys() == {"host", "accept", "accept-encoding", "user-agent"}


async def test_a_redirect_is_followed_and_judged_anew(fake_web: FakeWeb) -> None:
    """What is public may lead to what is public."""
    fake_web.pages[CAT_URL] = redirect_response("https://cdn.example.com/a?sig=1")
    fake_web.pages["https://cdn.example.com/a?sig=1"] = redirect_response("/b")
    fake_web.pages["https://cdn.example.com/b"] = raw_response(PNG)

    assert (await fetch(fake_web)).content == PNG

    assert fake_web.resolved_names == ["files.example.com", "cdn.example.com", "cdn.example.com"]


async def test_another_address_of_a_name_is_tried_if_the_first_takes_no_connection(
    fake_web: FakeWeb,
) -> None:
    """A machine without IPv6 still reaches what has both."""
    fake_web.addresses_by_name["files.example.com"] = ["2606:2800:21f::1", PUBLIC_ADDRESS]
    fake_web.unreachable.add("2606:2800:21f::1")
    fake_web.pages[CAT_URL] = raw_response(PNG)

    assert (await fetch(fake_web)).content == PNG


async def test_a_certificate_for_another_name_is_not_believed(fake_web: FakeWeb) -> None:
    """Whoever sits at the address must be whom the URL names."""
    with pytest.raises(FetchFailed):
        await fetch(fake_web, "https://files.example.org/cat.png")

    assert not fake_web.requests


@pytest.mark.parametrize("status", ["503 Oops", "429 Slowly", "500 Oops"])
async def test_trouble_of_the_moment_may_be_tried_again(fake_web: FakeWeb, status: str) -> None:
    """It says nothing against the URL."""
    fake_web.pages[CAT_URL] = raw_response(PNG, status)

    with pytest.raises(FetchFailed):
        await fetch(fake_web)


async def test_a_refused_address_reads_like_an_unknown_name(fake_web: FakeWeb) -> None:
    """Nobody learns from us which names a private network has."""
    fake_web.addresses_by_name["files.example.com"] = ["10.0.0.1"]
    with pytest.raises(FetchRefused) as private:
        await fetch(fake_web)
    fake_web.addresses_by_name["files.example.com"] = name_not_found()
    with pytest.raises(FetchRefused) as unknown:
        await fetch(fake_web)

    assert str(private.value) == str(unknown.value)
    assert not fake_web.dialed_addresses
