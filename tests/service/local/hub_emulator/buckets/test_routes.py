"""Buckets of the local Hub, as the real client makes, fills, lists, reads and deletes them."""

import json
import os
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BucketNotFoundError, HfHubHTTPError

from service.local.hub_emulator.users import Permission
from service.local.ports import find_free_port
from tests.support.hub.emulator_process import HubEmulatorProcess, read_sizes, run_hub_emulator


@pytest.fixture
def bucket(alice_api: HfApi) -> str:
    """A private bucket of Alice's, with nothing in it."""
    return alice_api.create_bucket(f"alice/b-{uuid4().hex[:8]}", private=True).bucket_id


def test_what_the_real_client_uploads_it_lists_and_downloads(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, bucket: str, tmp_path: Path
) -> None:
    """The library packs, hashes and unpacks; what it gets back is what it sent."""
    large = os.urandom(700_000)
    sent = {"a.txt": b"hello\n" * 1000, "empty": b"", "sub/deep/b.bin": large, "submarine": b"x"}

    alice_api.batch_bucket_files(bucket, add=[(content, path) for path, content in sent.items()])

    assert read_sizes(alice_api, bucket) == {path: len(content) for path, content in sent.items()}
    assert [(each.type, each.path) for each in alice_api.list_bucket_tree(bucket)] == [
        ("file", "a.txt"),
        ("file", "empty"),
        ("directory", "sub"),
        ("file", "submarine"),
    ]
    # As on the Hub, a prefix is no folder.
    assert read_sizes(alice_api, bucket, "sub").keys() == {"sub/deep/b.bin", "submarine"}
    totals = alice_api.bucket_info(bucket)
    assert (totals.private, totals.total_files, totals.size) == (
        True,
        4,
        6000 + len(large) + 1,
    )
    alice_api.download_bucket_files(bucket, [(path, tmp_path / path) for path in sent])
    assert {path: (tmp_path / path).read_bytes() for path in sent} == sent
    with hub_emulator.open_client() as client:
        url = f"/buckets/{bucket}/resolve/sub/deep/b.bin"
        assert client.get(url, follow_redirects=True).content == large


def test_a_file_that_is_replaced_or_deleted_is_gone(alice_api: HfApi, bucket: str) -> None:
    """There are no versions: the hash of what is there says which content it has."""
    alice_api.batch_bucket_files(bucket, add=[(b"one", "a"), (b"two", "b")])
    (before,) = alice_api.get_bucket_paths_info(bucket, ["a", "nowhere"])

    alice_api.batch_bucket_files(bucket, add=[(b"three", "a")], delete=["b"])

    (after,) = alice_api.get_bucket_paths_info(bucket, ["a", "b"])
    assert (before.size, after.size) == (3, 5)
    assert before.xet_hash != after.xet_hash
    alice_api.batch_bucket_files(bucket, copy=[("bucket", bucket, after.xet_hash, "copy")])
    assert read_sizes(alice_api, bucket) == {"a": 5, "copy": 5}
    alice_api.delete_bucket(bucket)
    with pytest.raises(BucketNotFoundError):
        alice_api.bucket_info(bucket)


def test_a_bucket_is_made_once_and_public_unless_it_is_said_otherwise(alice_api: HfApi) -> None:
    name = f"alice/b-{uuid4().hex[:8]}"

    alice_api.create_bucket(name)

    assert alice_api.bucket_info(name).private is False
    assert alice_api.create_bucket(name, private=True, exist_ok=True).bucket_id == name
    with pytest.raises(HfHubHTTPError, match="409"):
        alice_api.create_bucket(name)
    alice_api.update_bucket_settings(name, private=True)
    assert alice_api.bucket_info(name).private is True


def test_a_private_bucket_is_not_there_for_anybody_else(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    """What may be known of it is what may be known of one that does not exist."""
    alice_api.batch_bucket_files(bucket, add=[(b"secret", "a")])
    bob = hub_emulator.api("bob")

    for name in (bucket, "alice/never"):
        with pytest.raises(BucketNotFoundError):
            bob.bucket_info(name)
        with pytest.raises(BucketNotFoundError):
            list(bob.list_bucket_tree(name))
        with pytest.raises(BucketNotFoundError):
            bob.batch_bucket_files(name, delete=["a"])
    assert bucket not in {each.id for each in bob.list_buckets("alice")}
    with pytest.raises(HfHubHTTPError, match=r"missing permissions: repo\.write"):
        bob.create_bucket("alice/mine")


def test_who_may_only_read_a_bucket_changes_nothing_in_it(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    alice_api.batch_bucket_files(bucket, add=[(b"x", "a")])
    reader = HfApi(
        endpoint=hub_emulator.url, token=hub_emulator.fine_grained_token(Permission.READ_REPOS)
    )
    stranger = HfApi(
        endpoint=hub_emulator.url, token=hub_emulator.fine_grained_token(Permission.WRITE_JOBS)
    )

    assert read_sizes(reader, bucket) == {"a": 1}
    with pytest.raises(HfHubHTTPError, match=r"missing permissions: repo\.write"):
        reader.batch_bucket_files(bucket, delete=["a"])
    with pytest.raises(BucketNotFoundError):
        read_sizes(stranger, bucket)
    assert read_sizes(alice_api, bucket) == {"a": 1}


def test_a_token_for_one_bucket_is_none_for_the_content_of_another(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    """Whoever learns a hash has not learned what is kept under it."""
    alice_api.batch_bucket_files(bucket, add=[(b"secret" * 100, "a")])
    (file,) = alice_api.get_bucket_paths_info(bucket, ["a"])
    other = alice_api.create_bucket(f"alice/b-{uuid4().hex[:8]}").bucket_id

    with hub_emulator.open_client() as client:
        own, foreign = (
            client.get(f"/api/buckets/{name}/xet-read-token").json() for name in (bucket, other)
        )
    content = own["casUrl"]
    url = f"{content}/v1/reconstructions/{file.xet_hash}"
    with hub_emulator.open_client_as(own["accessToken"]) as client:
        assert client.get(url).status_code == 200
        sent = client.post(f"{content}/v1/xorbs/default/{'0' * 64}", content=b"x")
        assert sent.status_code == 403
    with hub_emulator.open_client_as(foreign["accessToken"]) as client:
        assert client.get(url).status_code == 404
    with hub_emulator.open_client_as("nothing") as client:
        assert client.get(url).status_code == 401


def test_another_hub_at_the_same_address_gets_all_that_is_uploaded_to_it(tmp_path: Path) -> None:
    """The library remembers by address what need not be sent again."""
    port = find_free_port()
    for folder in ("one", "other"):
        with run_hub_emulator(tmp_path / folder, port=port) as hub:
            alice = hub.api()
            alice.create_bucket("alice/b")
            alice.batch_bucket_files("alice/b", add=[(b"the same" * 1000, "a")])
            assert read_sizes(alice, "alice/b") == {"a": 8000}


@pytest.mark.parametrize("path", ["../a", "a/../b", "/a", "a//b", "a/", "", "a\\b", "a\n", "."])
def test_no_path_leads_out_of_a_bucket(
    hub_emulator: HubEmulatorProcess, bucket: str, path: str
) -> None:
    line = json.dumps({"type": "addFile", "path": path, "xetHash": "0" * 64})
    with hub_emulator.open_client() as client:
        answer: httpx2.Response = client.post(f"/api/buckets/{bucket}/batch", content=line)
        assert answer.status_code == 400
        assert client.get(f"/api/buckets/{bucket}").json()["totalFiles"] == 0


def test_a_file_whose_content_was_never_sent_cannot_be_added(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, bucket: str
) -> None:
    with hub_emulator.open_client() as client:
        line = f'{{"type": "addFile", "path": "a", "xetHash": "{"a" * 64}"}}'
        answer = client.post(f"/api/buckets/{bucket}/batch", content=line)

    assert answer.status_code == 422
    assert answer.json()["failed"] == [{"path": "a", "error": "Content not found"}]
    assert read_sizes(alice_api, bucket) == {}
