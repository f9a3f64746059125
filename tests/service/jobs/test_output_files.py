"""Files of a job that are read back: by a tool as text, by a resource as they are."""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import pytest

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.db.database import Database
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import answer_text, call_tool, post_message, read_refusal
from tests.support.subjects import BOB_TOKEN

REPORT: Final = "".join(f"line {number:05}: é\n" for number in range(3000))
FOLDER: Final = "ada/holdfast/job_1"
ODD_NAME: Final = "plots/a b?#/ü.txt"

MakeOutputs = Callable[..., Awaitable[str]]
"""Makes a finished job with files at the Hub and here; returns its handle."""


@pytest.fixture
def make_outputs(database: Database, make_job: JobFactory, fake_hub: FakeHub) -> MakeOutputs:
    async def make(at_hub: dict[str, bytes], here: dict[str, bytes] | None = None) -> str:
        job = await make_job_with_history(RunDriver(database), make_job, "succeeded")
        fake_hub.bucket_files |= {f"{FOLDER}/{name}": each for name, each in at_hub.items()}
        outputs = [
            NewJobFile(
                name,
                len(content),
                uri=f"hf://buckets/{FOLDER}/{name}",
                revision=hashlib.sha256(content).hexdigest(),
            )
            for name, content in at_hub.items()
        ]
        stored = [NewJobFile.from_content(name, each, None) for name, each in (here or {}).items()]
        async with database.transaction() as tx:
            await files.save_files(tx, job.id, [*outputs, *stored])
        return job_handle(job.id)

    return make


async def read_file(url: str, handle: str, name: str, **more: Any) -> dict[str, Any]:
    uri = f"job://{handle}/files/{quote(name)}"
    answer = await post_message(url, "resources/read", {"uri": uri}, **more)
    body: dict[str, Any] = answer.json()
    return body


async def read_content(url: str, handle: str, name: str) -> dict[str, Any]:
    [content] = (await read_file(url, handle, name))["result"]["contents"]
    read: dict[str, Any] = content
    return read


async def test_a_text_file_is_read_whole_part_by_part(
    service_url: str, make_outputs: MakeOutputs, fake_hub: FakeHub
) -> None:
    """With the caller's own token; a host without resources misses nothing."""
    handle = await make_outputs({"report.txt": REPORT.encode()})
    text, offset, calls = "", 0, 0

    while calls < 20:
        calls += 1
        answer = await call_tool(
            service_url, "job_result", job_id=handle, file="report.txt", offset=offset
        )
        view: dict[str, Any] = answer.structured_content or {}
        assert view["result"]["text"] in answer_text(answer)
        assert len(answer_text(answer).encode()) < 40_000
        text += view["result"]["text"]
        if view["next_offset"] is None:
            break
        offset = view["next_offset"]
        assert f"offset={offset})" in view["next_step"]

    assert text == REPORT
    assert calls > 2
    assert set(fake_hub.file_requests) == {("hf_ada", f"{FOLDER}/report.txt")}


async def test_every_file_is_a_resource_text_or_bytes(
    service_url: str, make_outputs: MakeOutputs
) -> None:
    """Whatever its name has in it, and wherever it lies."""
    handle = await make_outputs(
        {"data/a.csv": b"a,b\n1,2\n", ODD_NAME: b"odd"},
        {
            "100%2e.txt": b"%",
            "x.bin": b"\xff\xfe\0",
            "nul": b"a\0b",
            "plot.png": b"\x89PNG\xff",
            "NOTES": b"read me",
        },
    )

    csv, odd, notes = [
        await read_content(service_url, handle, name) for name in ("data/a.csv", ODD_NAME, "NOTES")
    ]
    binary, nul, png = [
        await read_content(service_url, handle, name) for name in ("x.bin", "nul", "plot.png")
    ]

    assert (csv["text"], csv["mimeType"]) == ("a,b\n1,2\n", "text/csv")
    assert (odd["text"], odd["mimeType"]) == ("odd", "text/plain")
    assert (await read_content(service_url, handle, "100%2e.txt"))["text"] == "%"
    assert (notes["text"], notes["mimeType"]) == ("read me", "text/plain")
    assert base64.b64decode(binary["blob"]) == b"\xff\xfe\0"
    assert binary["mimeType"] == nul["mimeType"] == "application/octet-stream"
    assert (base64.b64decode(png["blob"]), png["mimeType"]) == (b"\x89PNG\xff", "image/png")


async def test_what_cannot_be_read_back_says_where_it_is(
    service_url: str, make_outputs: MakeOutputs, fake_hub: FakeHub
) -> None:
    """Too large, no text, gone or changed: a sentence with the next step, and no bytes."""
    large = b"x" * (1024 * 1024 + 1)
    handle = await make_outputs(
        {"large.txt": large, "gone.txt": b"1", "changed.txt": b"1"}, {"big": large, "x": b"\xff"}
    )
    del fake_hub.bucket_files[f"{FOLDER}/gone.txt"]
    fake_hub.bucket_files[f"{FOLDER}/changed.txt"] = b"2"

    async def refuse(name: str) -> str:
        answer = await call_tool(service_url, "job_result", job_id=handle, file=name)
        assert answer.is_error
        return answer_text(answer)

    for name, words in (
        ("large.txt", f"Get it with: hf buckets cp hf://buckets/{FOLDER}/large.txt ."),
        ("gone.txt", "is not there any more, or your token may not read it"),
        ("changed.txt", "is not at Hugging Face any more as the job left it"),
        ("big", "Download it from http"),
        ("x", "is no text. Download it from http"),
        ("none.txt", "the job has none called 'none.txt'; it left"),
    ):
        assert words in await refuse(name), name
    assert ("hf_ada", f"{FOLDER}/large.txt") not in fake_hub.file_requests
    resource = await read_file(service_url, handle, "large.txt")
    assert "hf buckets cp" in resource["error"]["message"]


@pytest.mark.parametrize(
    "name",
    ["../secret.txt", "a/../secret.txt", "/secret.txt", "..%2Fsecret.txt", "secret.txt\0", "", "."],
)
async def test_no_name_leads_to_another_file(
    service_url: str, make_outputs: MakeOutputs, fake_hub: FakeHub, name: str
) -> None:
    """A name is compared with those of the job's files, and never put into a path."""
    handle = await make_outputs({"a.txt": b"mine"})
    fake_hub.bucket_files["ada/holdfast/secret.txt"] = b"another's"

    resource = await read_file(service_url, handle, name)
    answer = await call_tool(service_url, "job_result", job_id=handle, file=name)

    assert resource["error"]["message"].startswith("Unknown resource")
    assert "another's" not in answer_text(answer)
    assert fake_hub.file_requests == []


async def test_a_foreign_file_is_not_told_from_none(
    service_url: str, make_outputs: MakeOutputs, fake_hub: FakeHub
) -> None:
    handle, unknown = await make_outputs({"a.txt": b"mine"}), job_handle(uuid4())
    bob = f"Bearer {BOB_TOKEN}"

    foreign, none = [
        (await read_file(service_url, each, "a.txt", authorization=bob), each)
        for each in (handle, unknown)
    ]
    answers = [
        await call_tool(
            service_url, "job_result", caller_token=BOB_TOKEN, job_id=each, file="a.txt"
        )
        for each in (handle, unknown)
    ]

    assert str(foreign[0]).replace(handle, unknown) == str(none[0])
    assert read_refusal(answers[0])["code"] == "NotFound"
    assert answer_text(answers[0]).replace(handle, unknown) == answer_text(answers[1])
    assert fake_hub.file_requests == []
