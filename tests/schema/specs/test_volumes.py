"""Which volumes a job may have, and what the Hub is told of them."""

from typing import Any

import pytest
from huggingface_hub.cli._cli_utils import parse_volumes
from pydantic import TypeAdapter, ValidationError

from schema.specs import volumes
from schema.specs.volumes import Volumes

ACCEPTED_VOLUMES = [
    "hf://ada/model:/data",
    "hf://models/ada/model:/data",
    "hf://datasets/ada/set:/data:ro",
    "hf://datasets/ada/set/train/part:/data/train",
    "hf://datasets/ada/set@v1.0/train:/data",
    "hf://datasets/ada/set@refs/pr/7/train:/data",
    "hf://datasets/ada/set@refs/convert/parquet:/data",
    "hf://models/ada/model@feature%2Fx/weights:/data",
    "hf://spaces/ada/app:/srv/app",
    "hf://buckets/ada/b:/out",
    "hf://buckets/ada/b:/out:rw",
    "hf://buckets/ada/b/some/folder:/out:ro",
    "hf://buckets/ada/b/a@b:/out",
]


@pytest.mark.parametrize("written", ACCEPTED_VOLUMES)
def test_a_volume_is_read_as_the_client_library_reads_it(written: str) -> None:
    """One notation, wherever it is written; and what the Hub does unasked is said."""
    theirs: Any = parse_volumes([written])
    expected: dict[str, Any] = theirs[0].to_dict()
    if expected["type"] != "bucket":
        expected["readOnly"] = True

    assert volumes.parse_volume(written).to_hub_json() == {"readOnly": False} | expected


@pytest.mark.parametrize("written", ACCEPTED_VOLUMES)
def test_it_is_stored_in_one_form_which_means_the_same(written: str) -> None:
    """Two ways to write it are one request under an idempotency key."""
    read = volumes.parse_volume(written)

    assert volumes.parse_volume(str(read)) == read
    assert TypeAdapter(Volumes).validate_python([written]) == [str(read)]


def test_the_type_may_be_in_the_singular() -> None:
    """There is only one thing it can mean."""
    assert volumes.parse_volume("hf://dataset/ada/set:/data") == volumes.parse_volume(
        "hf://datasets/ada/set:/data"
    )


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", r"is not a volume \(Must start with 'hf://'\); write hf://TYPE/OWNER/NAME"),
        ("/data:/data", "is not a volume"),
        ("hf://datasets/ada/set", "is not a volume"),
        ("https://huggingface.co/datasets/ada/set:/data", "is not a volume"),
        ("hf://:/data", "is not a volume"),
        ("hf://datasets/ada:/data", r"\(Repository id must be 'namespace/name', got 'ada'\)"),
        ("hf://ada:/data", r"\(Repository id must be 'namespace/name', got 'ada'\)"),
        ("hf://datasets//set:/data", r"\(Repository id must be 'namespace/name', got 'set'\)"),
        ("hf://datasets//ada/set:/data", "names no repository or bucket"),
        ("hf:///ada/set:/data", "names no repository or bucket"),
        ("hf://ada/\xe9:/data", "Repo id must use alphanumeric chars"),
        ("hf://buckets/ada/b..c:/data", "names no repository or bucket"),
        ("hf://datasets/../../etc/x:/data", r"\(Repo id must use alphanumeric chars"),
        ("hf://kernels/ada/k:/data", "a kernel cannot be mounted"),
        ("hf://datasets/ada/set:/data:rw", "a dataset can only be read; leave :rw out"),
        ("hf://buckets/ada/b@v1:/out", "Bucket URIs do not support a revision"),
        ("hf://datasets/ada/set@:/data", r"\(Empty revision after '@'\)"),
        ("hf://datasets/ada/set@..:/data", "neither .. nor an empty part"),
        ("hf://datasets/ada/set@a%2F..:/data", "neither .. nor an empty part"),
        ("hf://datasets/ada/set@a%00b:/data", "names no repository or bucket"),
        ("hf://datasets/ada/set@refs/pr/7x:/data", "names no repository or bucket"),
        ("hf://buckets/ada/b/../c:/out", "neither .. nor an empty part"),
        ("hf://buckets/ada/b/./c:/out", "neither .. nor an empty part"),
        ("hf://buckets/ada/b//c:/out", "Path must not contain empty segments"),
        ("hf://buckets/ada/b:/", "Mount path must be a non-empty absolute path"),
        ("hf://buckets/ada/b:/a/../etc", "an absolute path"),
        ("hf://buckets/ada/b:/a//b", "an absolute path"),
        ("hf://buckets/ada/b:/a\nb", "an absolute path"),
        ("hf://buckets/ada/b:data", "is not a volume"),
        ("hf://buckets/ada/b:/proc", "would hide what the image needs"),
        ("hf://buckets/ada/b:/proc/self/", "would hide what the image needs"),
        ("hf://buckets/ada/b:/dev/shm", "would hide what the image needs"),
        ("hf://buckets/ada/b:/usr/", "would hide what the image needs"),
        ("hf://buckets/ada/b:/tmp", "would hide what the image needs"),
    ],
)
def test_what_could_not_be_mounted_is_refused_with_what_could(written: str, says: str) -> None:
    """Before there is a handle, and not by a container that never starts."""
    with pytest.raises(ValueError, match=says):
        volumes.parse_volume(written)


def test_two_volumes_have_two_places() -> None:
    """One would hide the other."""
    with pytest.raises(ValidationError, match="/data is the mount of more than one volume"):
        TypeAdapter(Volumes).validate_python(["hf://a/b:/data", "hf://buckets/a/b:/data/:ro"])
