"""What is tried to make a webhook reach what is not public; each attempt reaches nothing."""

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from schema.hub.url_fetcher import FetchFailed, FetchRefused, PostAnswer
from schema.specs.inputs.webhook_url import WebhookUrl
from tests.support.fake_web import (
    FakeWeb,
    name_not_found,
    raw_response,
    redirect_response,
    run_fake_web,
)
from tests.workers.inputs.test_url_fetcher_attacks import REFUSED_URLS

HOOK_URL = "https://hooks.example.com/h?key=s"
TIMEOUT = timedelta(minutes=1)


@pytest.fixture
async def fake_web() -> AsyncGenerator[FakeWeb]:
    async with run_fake_web() as opened:
        yield opened


async def post(web: FakeWeb, url: str = HOOK_URL) -> PostAnswer:
    return await web.fetcher.post(
        WebhookUrl.parse(url), b"{}", {"webhook-id": "1"}, timeout=TIMEOUT
    )


async def test_a_public_receiver_is_reached(fake_web: FakeWeb) -> None:
    """Or the tests below would see nothing because nothing is sent."""
    fake_web.pages[HOOK_URL] = raw_response(b"", "202 Accepted", retry_after="7")

    assert await post(fake_web) == PostAnswer(202, "7")
    [request] = fake_web.requests
    assert request.headers["webhook-id"] == "1"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("url", [*REFUSED_URLS, "https://user:pw@hooks.example.com/h"])
def test_a_url_that_could_name_anything_else_is_refused(url: str) -> None:
    """Before any name is looked up, and without a word of the URL in the refusal."""
    with pytest.raises(ValueError, match="this is not the URL of a receiver") as refusal:
        WebhookUrl.parse(url, ["http://127.0.0.1:9000"])

    assert "pw" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9001/h",
        "http://127.0.0.1:90001/h",
        "http://127.0.0.1/h",
        "https://127.0.0.1:9000/h",
        "http://127.0.0.1:9000@example.com/h",
        "http://127.0.0.1:9000.example.com/h",
        "http://u@127.0.0.1:9000/h",
        "http://127.0.0.1:9000\\@example.com/h",
        "http://127.0.0.1:9000/h\r\nhost: x",
    ],
)
def test_an_origin_of_the_operator_is_that_one_and_no_other(url: str) -> None:
    """A port further is another server."""
    with pytest.raises(ValueError, match="this is not the URL of a receiver"):
        WebhookUrl.parse(url, ["http://127.0.0.1:9000"])


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),  # noqa: S104
        *("100.64.0.1", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    ],
)
async def test_a_name_that_leads_inside_is_not_connected_to(
    fake_web: FakeWeb, address: str
) -> None:
    """Also as one of several addresses: nobody chooses which of them is tried."""
    fake_web.addresses_by_name["hooks.example.com"] = ["93.184.215.14", address]

    with pytest.raises(FetchRefused, match="not on the public web"):
        await post(fake_web)

    assert not fake_web.dialed_addresses


async def test_a_name_that_changes_after_the_check_changes_nothing(fake_web: FakeWeb) -> None:
    """The address that was checked is the one that is connected to (DNS rebinding)."""
    fake_web.rebound_addresses["hooks.example.com"] = ["127.0.0.1"]
    fake_web.pages[HOOK_URL] = raw_response(b"")

    await post(fake_web)
    with pytest.raises(FetchRefused):
        await post(fake_web)

    assert fake_web.dialed_addresses == ["93.184.215.14"]


async def test_a_redirect_is_an_answer_and_no_order(fake_web: FakeWeb) -> None:
    """Neither the body nor its signature goes anywhere else."""
    fake_web.pages[HOOK_URL] = redirect_response("https://other.example.com/", "308 Moved")

    assert (await post(fake_web)).status == 308
    assert fake_web.resolved_names == ["hooks.example.com"]


async def test_an_answer_without_end_is_not_read(fake_web: FakeWeb) -> None:
    """What a receiver says has no use here, so it cannot fill a memory."""
    fake_web.pages[HOOK_URL] = raw_response(b"x" * 100, content_length=str(10**12))

    assert (await post(fake_web)).status == 200


async def test_a_name_that_does_not_exist_reads_as_one_that_leads_inside(
    fake_web: FakeWeb,
) -> None:
    """Or a delivery log would be a map of our network."""
    messages = set[str]()
    for addresses in (name_not_found(), ["10.0.0.1"]):
        fake_web.addresses_by_name["hooks.example.com"] = addresses
        with pytest.raises(FetchRefused) as refusal:
            await post(fake_web)
        messages.add(str(refusal.value))

    assert len(messages) == 1


async def test_a_certificate_of_another_name_is_not_believed(fake_web: FakeWeb) -> None:
    """A signature would tell whoever sits at the address what happened."""
    with pytest.raises(FetchFailed):
        await post(fake_web, "https://hooks.example.org/h")

    assert not fake_web.requests
