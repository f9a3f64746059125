"""Links by which a file is sent: who may send what, how often, and what everybody else gets.

The routes are `service.http.files.uploads`.
"""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import anyio
import httpx2
import pytest

from schema.artifacts.upload_tables import CHUNK_BYTES
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.settings import Settings
from service.runtime.sealed_tokens import ConfirmationTokens, UploadGrant, UploadLinks, derive_keys
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.mcp.client import call_for_result
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.subjects import ADA_ID, BOB_ID

MakeSettings = Callable[..., Settings]
PNG: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (8).to_bytes(4, "big") * 2 + bytes(20)
FILE: Final = os.urandom(2 * CHUNK_BYTES + 1234)


async def make_link(url: str, **arguments: Any) -> dict[str, Any]:
    """Make a link, as Ada."""
    return await call_for_result(url, "create_upload", **{"name": "data.bin", **arguments})


async def send_file(
    url: str, link: str, content: bytes | AsyncGenerator[bytes], **headers: str
) -> httpx2.Response:
    """Send a file to one service, with nothing but the link."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        address = f"{url}{urlsplit(link).path}"
        return await http.put(address, content=content, headers=headers)


def read_path(link: dict[str, Any]) -> str:
    """Return the path of a link."""
    url: str = link["url"]
    return urlsplit(url).path


async def read_uploads(database: Database) -> list[dict[str, Any]]:
    """Read all uploads, each with the bytes that are stored for it."""
    async with database.transaction() as tx:
        rows = await tx.fetch(
            """
            SELECT upload.*, stored.content
              FROM upload
              LEFT JOIN LATERAL (SELECT string_agg(content, ''::bytea ORDER BY position) AS content
                                   FROM upload_chunk
                                  WHERE upload_id = upload.id) AS stored ON true
             ORDER BY id
            """
        )
    return [dict(row) for row in rows]


def make_links(settings: Settings, purpose: bytes = b"holdfast upload") -> UploadLinks:
    """Write links as the service with these settings would."""
    return UploadLinks("http://here", derive_keys(settings, purpose))


async def test_a_link_is_enough_to_send_a_file(service_url: str, database: Database) -> None:
    """A model has no way to put bytes into a call, and curl has no token."""
    link = await make_link(service_url, name="my data/é 1.bin")

    answer = await send_file(service_url, link["url"], FILE)

    assert answer.status_code == 201
    [upload] = await read_uploads(database)
    assert answer.json() == {
        "upload_id": link["upload_id"],
        "size_bytes": len(FILE),
        "media_type": "application/octet-stream",
        "sha256": hashlib.sha256(FILE).hexdigest(),
        "expires_at": upload["expires_at"].isoformat(timespec="seconds"),
    }
    assert upload["content"] == FILE
    assert (upload["state"], upload["name"]) == ("ready", "_1.bin")
    assert (upload["sha256"], upload["size_bytes"]) == (answer.json()["sha256"], len(FILE))
    assert (link["method"], link["headers"]) == ("PUT", {})
    assert link["curl"].startswith(
        "curl -sS --globoff --fail-with-body -T './my data/é 1.bin' http://"
    )
    left = datetime.fromisoformat(link["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1, seconds=1)


async def test_whatever_is_not_a_good_link_is_answered_with_the_same_bytes(
    service_url: str, make_settings: MakeSettings, database: Database
) -> None:
    """Nobody learns whether there is an upload, whose it is, or whether it was used."""
    ours, soon = make_links(make_settings()), datetime.now(UTC) + timedelta(minutes=5)
    used, good = await make_link(service_url), await make_link(service_url)
    assert (await send_file(service_url, used["url"], FILE)).status_code == 201
    upload_id = ids.parse_handle(HandleKind.UPLOAD, good["upload_id"])
    token = good["url"].rpartition("/")[2]
    flipped = [
        f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in (0, 20, 60)
    ]
    seal = ConfirmationTokens(derive_keys(make_settings(), b"holdfast upload")).issue(b"", 2e9)
    sealed = [
        make_links(make_settings(), b"holdfast download").link_to(
            UploadGrant(ADA_ID, upload_id), soon
        ),
        UploadLinks("", [os.urandom(32)]).link_to(UploadGrant(ADA_ID, upload_id), soon),
        ours.link_to(UploadGrant(BOB_ID, upload_id), soon),
        ours.link_to(UploadGrant("", upload_id), soon),
        ours.link_to(UploadGrant(ADA_ID, uuid4()), soon),
        ours.link_to(UploadGrant(ADA_ID, upload_id), datetime.now(UTC) - timedelta(seconds=2)),
    ]

    bad = [*flipped, seal, used["url"].rpartition("/")[2]]
    bad += [each.rpartition("/")[2] for each in sealed]
    bad += [token[:-4], token[:8], f"{token}AAAA", "A", "%00", "é", "a" * 9000]
    answers = [await send_file(service_url, f"/uploads/{each}", FILE) for each in bad]
    async with database.transaction() as tx:  # time has passed, by the clock that counts
        await tx.execute("UPDATE upload SET link_expires_at = now() - interval '1 second'")
    answers.append(await send_file(service_url, good["url"], FILE))

    assert len(bad) == 18
    assert {(each.status_code, each.content) for each in answers} == {(404, answers[0].content)}
    headers = [{**each.headers, "date": ""} for each in answers]
    assert all(each == headers[0] for each in headers)
    stored = {upload["id"]: upload for upload in await read_uploads(database)}
    assert stored[upload_id]["content"] is None
    assert stored[ids.parse_handle(HandleKind.UPLOAD, used["upload_id"])]["content"] == FILE


async def test_a_link_only_takes(service_url: str) -> None:
    """Whoever finds it in a log cannot read with it what was sent."""
    link = await make_link(service_url)
    assert (await send_file(service_url, link["url"], FILE)).status_code == 201

    address = f"{service_url}{read_path(link)}"
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            assert (await http.request(method, address)).status_code == 405


@pytest.mark.parametrize(
    ("arguments", "content", "headers", "status"),
    [
        ({"size_bytes": 9}, b"ten bytes.", {}, 409),
        ({}, b"", {}, 400),
        ({}, b"x" * (1024 * 1024 + 1), {}, 413),
        ({}, b"x", {"content-length": "9" * 5000}, 413),
        ({}, b"x", {"content-length": "-1"}, 411),
        ({"media_type": "image/jpeg"}, PNG, {}, 415),
        ({"media_type": "text/csv"}, PNG, {}, 415),
        ({}, PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:], {}, 415),
    ],
)
async def test_what_does_not_fit_is_refused_and_the_link_stays_good(
    start_service: StartService,
    database: Database,
    arguments: dict[str, Any],
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    """Whoever holds the link is told why, and can send the right file."""
    with start_service(upload_bytes=1024 * 1024) as url:
        link = await make_link(url, **arguments)

        if "content-length" in headers:
            answer_status = await send_raw(url, link["url"], headers["content-length"], content)
        else:
            refused = await send_file(url, link["url"], content, **headers)
            answer_status = refused.status_code
            assert "can be used again" in refused.text

        assert answer_status in {status, 400 if headers else status}
        [upload] = await read_uploads(database)
        assert (upload["state"], upload["content"]) == ("pending", None)
        right = {"image/jpeg": b"\xff\xd8\xff" + bytes.fromhex("c0000b0800080008010011 00")}
        good = right.get(arguments.get("media_type", ""), b"nine byte")
        again = await send_file(url, link["url"], good)
        assert again.status_code == 201, again.text


async def send_raw(url: str, link: str, length: str, content: bytes) -> int:
    """Send a request with just these bytes; return the status of the answer."""
    host = urlsplit(url)
    assert host.hostname is not None
    assert host.port is not None
    stream = await anyio.connect_tcp(host.hostname, host.port)
    head = f"PUT {urlsplit(link).path} HTTP/1.1\r\nhost: {host.netloc}\r\ncontent-length: {length}"
    async with stream:
        await stream.send(f"{head}\r\n\r\n".encode() + content)
        answer = await stream.receive()
    return int(answer.split()[1])


async def test_a_file_whose_size_is_not_announced_is_not_read(
    service_url: str, database: Database
) -> None:
    """Its room in the quota is taken before its first byte."""
    link = await make_link(service_url)

    async def endless() -> AsyncGenerator[bytes]:
        yield FILE

    answer = await send_file(service_url, link["url"], endless())

    assert answer.status_code == 411
    [upload] = await read_uploads(database)
    assert upload["content"] is None


async def test_a_request_that_breaks_off_leaves_nothing_and_the_link_is_still_good(
    service_url: str, database: Database
) -> None:
    """A laptop that is closed on the way sends the file again when it is opened."""
    link = await make_link(service_url)
    host = urlsplit(service_url)
    stream = await anyio.connect_tcp(host.hostname or "", host.port or 0)
    head = f"PUT {read_path(link)} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(FILE)}"
    await stream.send(f"{head}\r\n\r\n".encode() + FILE[: CHUNK_BYTES + 10])
    await eventually(lambda: read_uploads(database), lambda rows: rows[0]["content"] is not None)

    await stream.aclose()

    [upload] = await eventually(
        lambda: read_uploads(database), lambda rows: rows[0]["content"] is None
    )
    assert (upload["state"], upload["attempt"], upload["size_bytes"]) == ("pending", None, None)
    assert (await send_file(service_url, link["url"], FILE)).status_code == 201
    [upload] = await read_uploads(database)
    assert upload["content"] == FILE


async def test_of_two_requests_through_one_link_one_wins_and_no_file_is_mixed(
    service_url: str, database: Database
) -> None:
    """The later one takes over: whoever tries again need not wait until the first is given up."""
    link = await make_link(service_url)
    other, goes_on = os.urandom(len(FILE)), anyio.Event()
    answers = dict[str, httpx2.Response]()

    async def halting() -> AsyncGenerator[bytes]:
        yield FILE[: CHUNK_BYTES + 10]
        await goes_on.wait()
        yield FILE[CHUNK_BYTES + 10 :]

    async def send_first() -> None:
        answers["first"] = await send_file(
            service_url, link["url"], halting(), **{"content-length": str(len(FILE))}
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_first)
        await eventually(
            lambda: read_uploads(database), lambda rows: rows[0]["content"] is not None
        )
        answers["second"] = await send_file(service_url, link["url"], other)
        goes_on.set()

    assert answers["second"].status_code == 201
    assert answers["first"].status_code == 409
    assert "later request" in answers["first"].text
    [upload] = await read_uploads(database)
    assert (upload["content"], upload["sha256"]) == (other, hashlib.sha256(other).hexdigest())


async def test_files_sent_through_one_link_at_once_are_one_file(
    service_url: str, database: Database
) -> None:
    """Whatever order their chunks come in, the file is that of one of them, whole."""
    link = await make_link(service_url)
    contents, statuses = [os.urandom(len(FILE)) for _ in range(4)], list[int]()

    async def send(content: bytes) -> None:
        statuses.append((await send_file(service_url, link["url"], content)).status_code)

    async with anyio.create_task_group() as tasks:
        for content in contents:
            tasks.start_soon(send, content)

    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 404, 409}
    [upload] = await read_uploads(database)
    assert upload["content"] in contents
    assert upload["sha256"] == hashlib.sha256(upload["content"]).hexdigest()


async def test_what_a_file_is_declared_as_counts_unless_its_bytes_say_otherwise(
    service_url: str,
) -> None:
    """A model card is no known type, and a picture is one whatever its name says."""

    async def send(content: bytes, **declared: str) -> str:
        link = await make_link(service_url, **declared)
        answer = await send_file(service_url, link["url"], content)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["media_type"])

    assert await send(PNG) == await send(PNG, media_type="image/png") == "image/png"
    assert await send(b"a,b\n1,2\n", media_type="text/csv") == "text/csv"
    assert await send(b"PK\x03\x04", media_type="application/zip") == "application/zip"
    assert await send("é".encode() * CHUNK_BYTES) == "text/plain"
    assert await send(b"x" + "é".encode() * CHUNK_BYTES) == "text/plain"


async def test_sending_counts_as_a_call(start_service: StartService) -> None:
    """A link is no way around the rate."""
    with start_service(calls_per_minute=60) as url:
        links = [await make_link(url) for _ in range(2)]
        statuses = [
            (await send_file(url, links[number % 2]["url"], b"")).status_code
            for number in range(60)
        ]

    assert set(statuses) == {400, 429}


@pytest.mark.parametrize("upload_id", [UUID(int=0), UUID(int=2**128 - 1)])
async def test_the_answer_to_a_link_of_nothing_reads_the_body_of_nobody(
    service_url: str, make_settings: MakeSettings, upload_id: UUID
) -> None:
    """A stranger with an old link has nothing stored, not for a moment."""
    soon = datetime.now(UTC) + timedelta(minutes=5)
    link = make_links(make_settings()).link_to(UploadGrant(ADA_ID, upload_id), soon)

    assert (await send_file(service_url, link, FILE)).status_code == 404
