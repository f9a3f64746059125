"""Paths of files on the Hub: what is read of them, and what they can never name."""

import pytest

from schema.specs.inputs.hub_uri import HubUri

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("hf://datasets/ada/cats/a/b.jsonl", "/datasets/ada/cats/resolve/main/a/b.jsonl"),
        ("hf://datasets/ada/cats@v1.0/b.jsonl", "/datasets/ada/cats/resolve/v1.0/b.jsonl"),
        ("hf://datasets/a/c@refs/pr/3/b", "/datasets/a/c/resolve/refs%2Fpr%2F3/b"),
        (
            "hf://datasets/a/c@refs/convert/parquet/b",
            "/datasets/a/c/resolve/refs%2Fconvert%2Fparquet/b",
        ),
        ("hf://models/ada/m/config.json", "/ada/m/resolve/main/config.json"),
        ("hf://spaces/ada/s/app.py", "/spaces/ada/s/resolve/main/app.py"),
        ("hf://buckets/ada/b/run 1/ü?#.txt", "/buckets/ada/b/resolve/run%201/%C3%BC%3F%23.txt"),
    ],
)
def test_a_path_is_found_where_the_hub_has_it(text: str, where: str) -> None:
    """What a URL would read as its query is part of a file's name here."""
    path = HubUri.parse(text)

    assert path.url_path == where
    assert str(path) == text


def test_a_path_is_pinned_to_a_revision() -> None:
    """What is read again later is what was read first."""
    path = HubUri.parse("hf://datasets/ada/cats/a.jsonl").at_revision(SHA)

    assert path.url_path == f"/datasets/ada/cats/resolve/{SHA}/a.jsonl"
    assert str(path) == f"hf://datasets/ada/cats@{SHA}/a.jsonl"


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "https://huggingface.co/datasets/ada/cats/resolve/main/a",
        "hf://datasets/ada/cats",
        "hf://datasets/ada/cats/",
        "hf://datasets/cats/a",
        "hf://ada/cats/a",
        "hf:///etc/passwd",
        "hf://datasets/../../etc/passwd",
        "hf://datasets/ada/../bob/secret",
        "hf://datasets/ada/cats/../../bob/secret",
        "hf://datasets/ada/cats/a/..",
        "hf://datasets/ada/cats/./a",
        "hf://datasets/ada/cats/a//b",
        "hf://datasets/ada/cats/. ./a",
        "hf://datasets/ada/cats//etc/passwd",
        "hf://datasets/ada/cats/%2e%2e/%2e%2e/bob",
        "hf://datasets/ada/cats/%252e%252e/bob",
        "hf://datasets/ada/cats/a%2f..%2f..",
        "hf://datasets/ada/cats/a\\..\\b",
        "hf://datasets/ada/cats/a\r\nhost: evil",
        "hf://datasets/ada/cats/a\0",
        "hf://datasets/ada/cats/a\u2028b",
        "hf://datasets/ada/cats@../../bob/x/a",
        "hf://datasets/ada/cats@main%2f../a",
        "hf://datasets/ada/cats@/a",
        "hf://datasets/ada/ca..ts/a",
        "hf://datasets/ada@evil.com/cats/a",
        "hf://evil.com/ada/cats/a",
        "hf://datasets:443/ada/cats/a",
        "hf://user:pw@datasets/ada/cats/a",
        "hf://buckets/ada/b@main/a",
        "hf://kernels/ada/k/a",
        "hf://datasets//ada/cats/a",
        "hf://datasets/ada/cats@../a",
        "hf://datasets/ada/cats@feature%2Fx/a",
        "hf://datasets/ada/cats@refs/pr/3x/a",
        "hf://dataset/ada/cats/a",
        "hf://datasets/ada/\xe9/a",
        "hf://datasets/ada/cats/" + "a" * 1024,
    ],
)
def test_what_is_not_below_a_repository_is_no_path(text: str) -> None:
    """Neither this machine, nor another host, nor another repository can be named."""
    with pytest.raises(ValueError, match=r"is not a file of the Hub.*; write hf://datasets/OWNER"):
        HubUri.parse(text)
