"""Names of images as registries have them, and what is said of anything else."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.image import Image

IMAGE: TypeAdapter[str] = TypeAdapter(Image)
DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "image",
    [
        *("python", "python:3.12", "python:3.12-slim_x.Y", "ada/app", "docker.io/library/python:3"),
        *("ghcr.io/astral-sh/uv:python3.12-bookworm", "localhost:5000/x", "registry:5000/a/b:1"),
        *("a/b__c/d-e--f.g:1", "nvcr.io/nvidia/pytorch:24.10-py3", "GHCR.io/ada/app"),
        *(f"python@{DIGEST}", f"python:3.12@{DIGEST}", f"localhost:5000/a/b:t@{DIGEST}"),
        *("[::1]:5000/x", "registry.hf.space/ada-app:latest", "hf.co/spaces/ada/App"),
    ],
)
def test_the_name_of_an_image_is_taken(image: str) -> None:
    """Ports, digests and paths of any depth are part of the grammar."""
    assert IMAGE.validate_python(f" {image}\n") == image


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("Python:3.12", 'names are in lower case; write "python:3.12"'),
        ("ghcr.io/Ada/App:V1", 'write "ghcr.io/ada/app:V1"'),
        ("Ada/app", 'write "ada/app"'),
        ("docker://python:3.12", 'without scheme or spaces, such as "python:3.12"'),
        ("oci://ghcr.io/ada/app", 'such as "ghcr.io/ada/app"'),
        ("https://ghcr.io/ada/app:1", 'such as "ghcr.io/ada/app:1"'),
        ("https://hub.docker.com/r/ada/app", 'such as "ada/app"'),
        ("https://hub.docker.com/_/python", 'such as "python"'),
        ("docker pull python:3.12", 'such as "python:3.12"'),
        ("hf://spaces/ada/app", "write hf.co/spaces/ada/app"),
        ("spaces/ada/app", "write hf.co/spaces/ada/app"),
        ("hf.co/spaces/ada", "is not a Space"),
        ("python@3.12", "python@sha256:…"),
        ("python@sha256:abc", "python@sha256:…"),
        *((image, "write [HOST[:PORT]/]NAME") for image in ("python:", ":3.12", "-python", "a//b")),
        *((image, "write [HOST[:PORT]/]NAME") for image in ("/python", "python/", "a:b:c", "a_-b")),
        *(
            (image, "write [HOST[:PORT]/]NAME")
            for image in ("pythön", "a$b", "host:port/x", "a" * 256)
        ),
    ],
)
def test_anything_else_is_refused_with_the_name_that_was_meant(image: str, says: str) -> None:
    """A registry would refuse it once the job waits for it, and name no reason."""
    with pytest.raises(ValidationError) as refused:
        IMAGE.validate_python(image)

    assert says in refused.value.errors()[0]["msg"]
