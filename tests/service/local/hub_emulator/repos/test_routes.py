"""Repositories of the local Hub, as the real client makes, fills, lists and reads them."""

import os
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from service.local.hub_emulator.users import LocalTokenKind
from tests.support.hub.emulator_process import HubEmulatorProcess

DATASET = "dataset"
Change = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


@pytest.fixture
def repo(alice_api: HfApi) -> str:
    """A private dataset of Alice's, with nothing in it."""
    name = f"alice/d-{uuid4().hex[:8]}"
    alice_api.create_repo(name, repo_type=DATASET, private=True)
    return name


def upload_text(api: HfApi, repo: str, path: str, content: bytes) -> str:
    """Upload a file, and return the commit."""
    commit = api.upload_file(
        path_or_fileobj=content, path_in_repo=path, repo_id=repo, repo_type=DATASET
    )
    return commit.oid


def download_text(
    api: HfApi, repo: str, path: str, folder: Path, revision: str | None = None
) -> bytes:
    """Download a file."""
    client: Any = api  # a type of its own that it takes is unknown
    where = client.hf_hub_download(
        repo, path, repo_type=DATASET, revision=revision, cache_dir=folder / uuid4().hex
    )
    return Path(where).read_bytes()


def test_what_the_real_client_uploads_it_lists_and_downloads(
    alice_api: HfApi, repo: str, tmp_path: Path
) -> None:
    """Small files come from the Hub itself, and large ones by a link."""
    large = os.urandom(1_500_000)
    first = upload_text(alice_api, repo, "a.jsonl", b'{"n": 1}\n')
    upload_text(alice_api, repo, "sub/deep/b.bin", large)
    second = upload_text(alice_api, repo, "a.jsonl", b'{"n": 2}\n')

    assert download_text(alice_api, repo, "a.jsonl", tmp_path) == b'{"n": 2}\n'
    assert download_text(alice_api, repo, "a.jsonl", tmp_path, first) == b'{"n": 1}\n'
    assert download_text(alice_api, repo, "sub/deep/b.bin", tmp_path, second) == large
    tree = alice_api.list_repo_tree(repo, repo_type=DATASET, recursive=True)
    assert [each.path for each in tree] == ["a.jsonl", "sub", "sub/deep", "sub/deep/b.bin"]
    below = alice_api.list_repo_tree(repo, "sub", repo_type=DATASET)
    assert [each.path for each in below] == ["sub/deep"]
    assert alice_api.list_repo_files(repo, repo_type=DATASET) == ["a.jsonl", "sub/deep/b.bin"]


def test_a_commit_is_made_whole_and_after_the_one_it_names(alice_api: HfApi, repo: str) -> None:
    """Two who write at once do not undo each other without hearing of it."""
    first = upload_text(alice_api, repo, "a", b"1")
    upload_text(alice_api, repo, "b", b"2")
    good: list[Change] = [CommitOperationAdd("c", b"3"), CommitOperationDelete("a")]
    wrong: list[Change] = [CommitOperationAdd("d", b"4"), CommitOperationDelete("nowhere")]
    commit = partial(alice_api.create_commit, repo, repo_type=DATASET, commit_message="m")

    with pytest.raises(HfHubHTTPError, match="412"):
        commit(good, parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="File nowhere not found"):
        commit(wrong)
    commit(good)

    assert alice_api.list_repo_files(repo, repo_type=DATASET) == ["b", "c"]


def test_who_may_not_see_a_repository_finds_none(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, repo: str, tmp_path: Path
) -> None:
    """A private one is like none; and one that may only be read is not written to."""
    upload_text(alice_api, repo, "a", b"1")
    bob, reader = hub_emulator.api("bob"), hub_emulator.api("alice", LocalTokenKind.READ)

    for api, name in (
        (bob, repo),
        (bob, "alice/nowhere"),
        (HfApi(hub_emulator.url, token=False), repo),
    ):
        with pytest.raises(RepositoryNotFoundError):
            download_text(api, name, "a", tmp_path)
    with pytest.raises(HfHubHTTPError, match="403"):
        upload_text(reader, repo, "a", b"2")
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_repo("alice/mine", repo_type=DATASET)

    assert download_text(reader, repo, "a", tmp_path) == b"1"
    with pytest.raises(RemoteEntryNotFoundError):
        download_text(alice_api, repo, "b", tmp_path)
    with pytest.raises(RevisionNotFoundError):
        download_text(alice_api, repo, "a", tmp_path, "0" * 40)


def test_a_repository_is_made_once_and_public_unless_it_is_said_otherwise(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, tmp_path: Path
) -> None:
    """As on the Hub; whoever has no token reads what is public."""
    name = f"alice/d-{uuid4().hex[:8]}"

    url = alice_api.create_repo(name, repo_type=DATASET)
    upload_text(alice_api, name, "a", b"1")

    assert (url.repo_id, url.repo_type) == (name, DATASET)
    assert alice_api.create_repo(name, repo_type=DATASET, exist_ok=True).repo_id == name
    with pytest.raises(HfHubHTTPError, match="409"):
        alice_api.create_repo(name, repo_type=DATASET)
    assert download_text(HfApi(hub_emulator.url, token=False), name, "a", tmp_path) == b"1"
    alice_api.create_repo(name, repo_type="model")
    alice_api.delete_repo(name, repo_type=DATASET)
    with pytest.raises(RepositoryNotFoundError):
        alice_api.list_repo_files(name, repo_type=DATASET)
    assert alice_api.list_repo_files(name) == []


COMMIT_HEADER = b'{"key":"header","value":{"summary":"s"}}'
COMMIT_FILE = b'{"key":"file","value":{"path":"%s","encoding":"base64","content":"%s"}}'


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"{}"],
        [COMMIT_FILE % (b"a", b"QQ==")],
        [COMMIT_HEADER, COMMIT_HEADER],
        [COMMIT_HEADER, b'{"key":"lfsFile","value":{"path":"a"}}'],
        [COMMIT_HEADER, COMMIT_FILE % (b"../a", b"QQ==")],
        [COMMIT_HEADER, COMMIT_FILE % (b"a", b"!")],
    ],
)
def test_a_commit_that_cannot_be_read_changes_nothing(
    hub_emulator: HubEmulatorProcess, alice_api: HfApi, repo: str, lines: list[bytes]
) -> None:
    with hub_emulator.open_client() as client:
        answer = client.post(f"/api/datasets/{repo}/commit/main", content=b"\n".join(lines))

    assert answer.status_code == 400
    assert alice_api.list_repo_files(repo, repo_type=DATASET) == []
