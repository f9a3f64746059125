"""Which files a job may be asked to leave behind, and where they go."""

from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.hub_job import HubJobSpec
from schema.specs.outputs import OutputFolder, OutputLocation, Outputs
from tests.support.jobs.handles import job_handle

OUTPUTS: TypeAdapter[list[str]] = TypeAdapter(Outputs)
PLACE: TypeAdapter[str] = TypeAdapter(OutputLocation)
JOB = UUID(int=1)
HANDLE = job_handle(JOB)


@pytest.mark.parametrize(
    ("outputs", "meant"),
    [
        ("model.bin", ["model.bin"]),
        (["./model.bin", " plots/ "], ["model.bin", "plots/"]),
        (["/outputs/a", "$HOLDFAST_OUTPUTS/a"], ["a"]),
        (["/outputs/", "."], ["./"]),
        (["a b/ä.txt"], ["a b/ä.txt"]),
    ],
)
def test_an_output_is_meant_in_every_plain_form(outputs: object, meant: list[str]) -> None:
    """Who knows where it is mounted may say so."""
    assert OUTPUTS.validate_python(outputs) == meant


@pytest.mark.parametrize(
    "outputs",
    [
        *("", "/etc/passwd", "/", "//", "..", "../a", "a/../b", "a/..", "./../a", "a//b", "a/./b"),
        *("/outputs/../a", "*.png", "a?", "a\\b", "a\nb", "a\0", "hf://buckets/a/b/c", "a" * 501),
        ["a"] * 51,
        [1],
    ],
)
def test_what_is_not_inside_of_the_folder_is_refused(outputs: object) -> None:
    """It names a file of somebody else's, or none."""
    with pytest.raises(ValidationError):
        OUTPUTS.validate_python(outputs)


def test_each_job_has_a_folder_of_its_own() -> None:
    folder = OutputFolder.for_job("ada/holdfast/ws_1", JOB)

    assert (folder.bucket, folder.path) == ("ada/holdfast", f"ws_1/{HANDLE}")
    assert folder.bucket_path("plots/") == f"ws_1/{HANDLE}/plots/"
    assert folder.bucket_path("./") == f"ws_1/{HANDLE}/"
    assert folder.output_name(folder.bucket_path("a/b")) == "a/b"
    assert folder.uri(folder.bucket_path("a")) == f"hf://buckets/ada/holdfast/ws_1/{HANDLE}/a"


@pytest.mark.parametrize(
    "place", ["holdfast", "a/..", "a/b/../c", "/a/b", "a/b/", "hf://a/b", "a b/c"]
)
def test_a_place_is_a_bucket_or_a_folder_of_one(place: str) -> None:
    with pytest.raises(ValidationError):
        PLACE.validate_python(place)


@pytest.mark.parametrize("mount", ["/outputs", "/outputs/sub"])
def test_no_volume_hides_the_outputs(mount: str) -> None:
    """Else they would be written into it, and be missing."""
    arguments = {"image": "x", "command": ["x"], "outputs": ["a"], "outputs_in": "ada/holdfast"}

    with pytest.raises(ValidationError, match="/outputs is where outputs go"):
        HubJobSpec.model_validate(arguments | {"volumes": [f"hf://buckets/ada/b:{mount}"]})
    HubJobSpec.model_validate(arguments | {"volumes": ["hf://buckets/ada/b:/outputs2"]})


def test_outputs_need_a_place() -> None:
    """A job that was launched without has none, and runs again without."""
    with pytest.raises(ValidationError, match="launched without outputs"):
        HubJobSpec.model_validate({"image": "x", "command": ["x"], "outputs": ["a"]})
