"""What is tried to make the fetcher reach what is not public, or take what it should not.

Each is refused, and nothing is read: no name is asked for that cannot be public, no machine is
connected to that was not judged, and no more of a body is taken than was allowed.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from itertools import cycle

import anyio
import pytest

from schema.hub.url_fetcher import FetchError, FetchFailed, FetchRefused
from schema.specs.inputs import media_types
from tests.support.fake_web import (
    PUBLIC_ADDRESS,
    FakeWeb,
    PageAnswer,
    PageWriter,
    raw_response,
    redirect_response,
    run_fake_web,
)

CAT_URL = "https://files.example.com/cat.png"
LIMIT_BYTES = 100_000
TIMEOUT = timedelta(seconds=5)


@pytest.fixture
async def fake_web() -> AsyncGenerator[FakeWeb]:
    async with run_fake_web() as opened:
        yield opened


async def fetch_expecting_refusal(
    web: FakeWeb, url: str = CAT_URL, within: timedelta = TIMEOUT
) -> None:
    await web.fetcher.fetch(
        url, max_bytes=LIMIT_BYTES, timeout=within, accept=media_types.ALL_MEDIA_TYPES
    )


REFUSED_URLS = [
    *("", " ", "cat.png", "/etc/passwd", "//etc/passwd", "C:\\secrets.txt", "https:", "https://"),
    *("file:///etc/passwd", "file://localhost/etc/passwd", "FILE:/etc/passwd"),
    *(
        "http://files.example.com/cat.png",
        "ftp://files.example.com/a",
        "gopher://x.example.com:6379/_",
    ),
    *(
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "hf://datasets/a/b/c",
        "unix:/run/a.sock",
    ),
    *(
        "jar:https://files.example.com/a!/",
        "dict://127.0.0.1:11211/stat",
        "view-source:https://a.com",
    ),
    *("https:/files.example.com/a", "https:files.example.com/a", "https:///files.example.com/a"),
    # This machine and this network by name.
    *(
        "https://localhost/a",
        "https://localhost./a",
        "https://LOCALHOST/a",
        "https://a.localhost/a",
    ),
    *("https://metadata/a", "https://metadata.google.internal/a", "https://printer.local/a"),
    *("https://postgres/a", "https://redis.svc.cluster.local/a", "https://a.home.arpa/a"),
    # Addresses, in every way one is written.
    *("https://127.0.0.1/a", "https://127.1/a", "https://2130706433/a", "https://0177.0.0.1/a"),
    *("https://0x7f.0.0.1/a", "https://0x7f000001/a", "https://017700000001/a", "https://0/a"),
    *(
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/a",
        "https://100.100.100.200/a",
    ),
    *("https://[::1]/a", "https://[::ffff:127.0.0.1]/a", "https://[::ffff:7f00:1]/a"),
    *("https://[fe80::1%25eth0]/a", "https://[fe80::1%eth0]/a", "https://[fd00:ec2::254]/a"),
    *("https://[64:ff9b::7f00:1]/a", "https://[2002:7f00:1::]/a", "https://93.184.215.14/a"),
    *("https://files.example.0x7f/a", "https://1.2.3.4.5/a", "https://127.0.0.1./a"),
    # One host for a person, another for a parser.
    *("https://user@files.example.com/a", "https://user:pw@files.example.com/a"),
    *("https://files.example.com@127.0.0.1/a", "https://127.0.0.1\\@files.example.com/a"),
    *("https://files.example.com\\@127.0.0.1/a", "https://files.example.com%2f@127.0.0.1/a"),
    *("https://files.example.com#@127.0.0.1/a b", "https://127.0.0.1%2523@files.example.com/"),
    *(
        "https://files.example.com:80/a",
        "https://files.example.com:8443/a",
        "https://a.com:443:22/",
    ),
    *("https://files.example.com:/a", "https://files.example.com:+443/a", "https://a.com:0443/a"),
    *("https://files..example.com/a", "https://.example.com/a", "https://files.example.com./a"),
    *(
        "https://-a.example.com/a",
        "https://" + "a" * 64 + ".com/a",
        "https://" + "a." * 130 + "com/a",
    ),
    # Letters that become others.
    *("https://ⓛocalhost.example.com/a", "https://127。0。0。1/a", "https://①②⑦.0.0.1/a"),
    *(
        "https://files.example.com\u2044@127.0.0.1/a",
        "https://\u0435xample.com/a",
        "https://ß.com/a",
    ),
    *("https://files.example\u3002com/a", "https://files.example.com/\u202egnp.tac"),
    # Ends of lines, and of strings.
    *("https://files.example.com/a\r\nhost: 127.0.0.1", "https://files.example.com/a\nx: y"),
    *("https://files.example.com\r\n/a", "https://files.example.com/a b", "https://a.com/a\tb"),
    *(
        "https://files.example.com\0.evil.com/a",
        "https://files.example.com/\0",
        "https://a.com/\x7f",
    ),
    *(" https://files.example.com/a", "https://files.example.com/a\n", "https://a.com/\\..\\a"),
    "https://files.example.com/" + "a" * 5000,
]


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_what_is_no_public_url_is_not_even_asked_for(url: str) -> None:
    """The answer says what to write, and repeats nothing: a URL may hold a secret."""
    web = FakeWeb()

    with pytest.raises(FetchRefused, match="This is not the URL of a file on the public web"):
        await fetch_expecting_refusal(web, url)

    assert (web.resolved_names, web.dialed_addresses, web.requests) == ([], [], [])


REFUSED_ADDRESSES = [
    "0.0.0.0",  # noqa: S104  # binds nothing
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"),
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("198.18.0.1", "192.0.2.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1"),
    *("::ffff:93.184.215.14", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1", "2001:db8::1", "3fff::1", "5f00::1"),
    *(
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff0e::1",
        "100::1",
    ),
]


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
async def test_a_name_that_leads_to_what_is_not_public_is_not_connected_to(address: str) -> None:
    """One such address among public ones is enough: which is used is up to chance."""
    web = FakeWeb()
    for addresses in ([address], [PUBLIC_ADDRESS, address]):
        web.addresses_by_name["files.example.com"] = addresses

        with pytest.raises(FetchRefused, match="is not on the public web"):
            await fetch_expecting_refusal(web)

    assert web.dialed_addresses == []


REFUSED_REDIRECTS = [
    *("http://files.example.com/cat.png", "https://127.0.0.1/", "https://169.254.169.254/latest/"),
    *(
        "https://[::1]/",
        "//127.0.0.1/",
        "//localhost/a",
        "https://2130706433/",
        "file:///etc/passwd",
    ),
    *("https://user:pw@files.example.com/", "https://files.example.com:22/", "ftp://example.com/"),
    *(
        "\\\\127.0.0.1\\a",
        "https:\\\\127.0.0.1\\a",
        "data:text/plain,x",
        "javascript:1",
        "hf://a/b/c",
    ),
    *(
        "https://metadata.google.internal/",
        "https://files.example.com\t/",
        "https://ⓛocalhost/",
        "",
    ),
    "https://private.example.com/",
]


@pytest.mark.parametrize(
    ("location", "status"),
    list(zip(REFUSED_REDIRECTS, cycle(["301 A", "302 B", "303 C", "307 D", "308 E"]))),
)
async def test_a_redirect_is_judged_like_a_url(
    fake_web: FakeWeb, location: str, status: str
) -> None:
    """What is public may not lead to what is not."""
    fake_web.pages[CAT_URL] = redirect_response(location.encode().decode("latin-1"), status)
    fake_web.addresses_by_name["private.example.com"] = ["10.1.2.3"]

    with pytest.raises(FetchRefused):
        await fetch_expecting_refusal(fake_web)

    assert len(fake_web.requests) == len(fake_web.dialed_addresses) == 1


async def test_redirects_come_to_an_end(fake_web: FakeWeb) -> None:
    """A circle, or a chain, of them is not followed for ever."""
    fake_web.pages[CAT_URL] = redirect_response(CAT_URL)

    with pytest.raises(FetchRefused, match="more than 3 redirects"):
        await fetch_expecting_refusal(fake_web)

    assert len(fake_web.requests) == 4


async def test_a_name_is_not_asked_for_a_second_time_to_connect(fake_web: FakeWeb) -> None:
    """Between a look and a connection, its owner could have it lead elsewhere."""
    fake_web.rebound_addresses["files.example.com"] = ["127.0.0.1"]
    fake_web.pages[CAT_URL] = raw_response(b"hello")

    await fetch_expecting_refusal(fake_web)

    assert (fake_web.resolved_names, fake_web.dialed_addresses) == (
        ["files.example.com"],
        [PUBLIC_ADDRESS],
    )


async def test_a_name_that_is_rebound_before_a_redirect_is_judged_again(fake_web: FakeWeb) -> None:
    """A good answer is good for one connection."""
    fake_web.rebound_addresses["files.example.com"] = ["169.254.169.254"]
    fake_web.pages[CAT_URL] = redirect_response("/again")

    with pytest.raises(FetchRefused):
        await fetch_expecting_refusal(fake_web)

    assert fake_web.dialed_addresses == [PUBLIC_ADDRESS]


async def test_no_proxy_of_the_environment_comes_in_between(
    fake_web: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would ask for the name itself, and connect to whatever it leads to."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fake_web.pages[CAT_URL] = raw_response(b"hello")

    await fetch_expecting_refusal(fake_web)

    assert fake_web.dialed_addresses == [PUBLIC_ADDRESS]


def write_forever(first: bytes, again: bytes, *, every: float = 0) -> PageWriter:
    """Answer with something, and then with something else for as long as it is taken."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            await writer.drain()
            await anyio.sleep(every)  # 0 lets others run; more is what a slow server is
            writer.write(again)

    return send


ENDLESS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
SHORT_TIMEOUT = timedelta(seconds=0.4)
STREAMS: dict[str, tuple[PageAnswer, str]] = {
    "4 GB said": (raw_response(b"x", content_length=str(4 << 30)), "larger than 100,000 bytes"),
    "more than said": (raw_response(b"x" * 200_000), "larger than 100,000 bytes"),
    "4 GB sent": (write_forever(ENDLESS, CHUNK), "larger than 100,000 bytes"),
    "no length": (
        write_forever(b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 9999),
        "larger than 100,000 bytes",
    ),
    "slow body": (
        write_forever(raw_response(b"", content_length="99"), b"a", every=0.05),
        "took longer",
    ),
    "slow headers": (write_forever(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", every=0.05), "took longer"),
    "silence": (write_forever(b"", b"", every=0.05), "took longer"),
    "endless headers": (write_forever(b"HTTP/1.1 200 OK\r\na: ", b"a" * 9999), "could not be read"),
    "endless 1xx": (
        write_forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", every=0.01),
        "took longer",
    ),
    "less than said": (raw_response(b"hello", content_length="9"), "could not be read"),
    "two lengths": (raw_response(b"hello", **{"Content-Length": "5000"}), "could not be read"),
    "negative length": (raw_response(b"hello", content_length="-1"), "could not be read"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "could not be read"),
    "HTTP/0.9": (b"hello\r\n\r\n", "could not be read"),
    "gzip": (raw_response(b"\x1f\x8b" + b"\0" * 99, content_encoding="gzip"), "compressed"),
    "br": (raw_response(b"\x1b\xff", content_encoding="br"), "compressed"),
    "gzip twice": (raw_response(b"\x1f\x8b", content_encoding="gzip, gzip"), "compressed"),
    "gzip of a transfer": (
        raw_response(b"\x1f\x8b", transfer_encoding="gzip"),
        "could not be read",
    ),
    "part of it": (raw_response(b"hello", "206 Partial Content"), "answered 206"),
    "nothing": (raw_response(b"", "204 No Content"), "answered 204"),
    "another protocol": (
        raw_response(b"", "101 Switching Protocols", upgrade="h2c"),
        "answered 101|read",
    ),
    "empty": (raw_response(b""), "no known kind"),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_body_is_bounded_whatever_its_server_says(fake_web: FakeWeb, name: str) -> None:
    """In bytes and in time; the connection is closed, and not read to its end."""
    fake_web.pages[CAT_URL], reason = STREAMS[name]

    with anyio.fail_after(4), pytest.raises(FetchError, match=reason):
        await fetch_expecting_refusal(
            fake_web, within=SHORT_TIMEOUT if reason == "took longer" else TIMEOUT
        )


async def test_a_machine_that_takes_a_connection_and_says_nothing_is_left(
    fake_web: FakeWeb,
) -> None:
    """The deadline counts from the first look-up, not from the first byte."""

    closed = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)  # no TLS: no hello is answered
    async with server:
        fake_web.port = server.sockets[0].getsockname()[1]
        with anyio.fail_after(4), pytest.raises(FetchFailed, match="took longer"):
            await fetch_expecting_refusal(fake_web, within=SHORT_TIMEOUT)
        with anyio.fail_after(4):
            await closed.wait()


@pytest.mark.parametrize("content", [b"PK\x03\x04\0\0", b"<svg onload='alert(1)'/>"])
async def test_what_is_not_taken_is_told_by_its_bytes(fake_web: FakeWeb, content: bytes) -> None:
    """A header that calls it a picture makes none of it; see `test_media` for the others."""
    fake_web.pages[CAT_URL] = raw_response(content, content_type="image/png")

    with pytest.raises(
        FetchRefused, match="The file at the URL is not acceptable: it is of no known"
    ):
        await fetch_expecting_refusal(fake_web)
