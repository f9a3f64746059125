"""What names a Space, where it is, and what can be read of an app that means no good."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from schema.hub.gradio_api import InvalidCall
from schema.hub.gradio_client import Space, SpaceBroken, SpaceUnavailable, parse_space
from schema.hub.gradio_config import parse_config
from schema.specs.inputs.file_argument import FileArgument, parse_file_argument
from schema.specs.space import SpaceCallSpec
from tests.support.hub.gradio_app import GRADIO_CONFIG, GRADIO_INFO

SPACE_URL_TEMPLATE = "https://{subdomain}.hf.space"


@pytest.mark.parametrize(
    "space",
    [
        *("name", "", "a/b/c", "/a/b", "a//b", "../a", "a/..", "a/.", "a/b..c", "a/b--c", "a /b"),
        *("a/b?x", "a/b#x", "a/b%2f..", "%2e%2e/b", "a/b@evil.com", "user:pw@evil.com/b", "a\\b/c"),
        *("https://evil.com/spaces/a/b", "http://huggingface.co/spaces/a/b", "a/b.hf.space:443"),
        *("https://a-b.hf.space", "https://huggingface.co/spaces/a/b/../../c", "a/b\nc", "ä/b"),
        *("https://huggingface.co@evil.com/a/b", "hf.co/spaces/a/b?x=1", "127.0.0.1/a:80"),
        *("hf.co/spaces/https://evil.com/a", "[::1]/b", "a/" + "b" * 97),
    ],
)
def test_only_an_owner_and_a_name_name_a_space(space: str) -> None:
    """Nothing a caller writes becomes a host, a path of another kind, or a query."""
    with pytest.raises(ValidationError, match="does not name a Space"):
        SpaceCallSpec(space=space)


@pytest.mark.parametrize(
    "space",
    ["owner/Name.v1_2", "https://huggingface.co/spaces/owner/Name.v1_2", "hf.co/spaces/a/b"],
)
def test_the_page_of_a_space_names_it_too(space: str) -> None:
    """People copy it from there; only the name is taken from it."""
    assert SpaceCallSpec(space=space).space == "/".join(space.split("/")[-2:])


@pytest.mark.parametrize(
    "subdomain",
    [
        *("", "evil.com/", "evil.com", "a.b", "a/b", "a@evil", "a:80", "-a", "a-", "A", "a b", "ä"),
        *("a#", "a?", "127.0.0.1", "a\n", "x" * 64, None),
    ],
)
def test_a_space_is_at_the_domain_of_the_hub_or_nowhere(subdomain: str | None) -> None:
    """A custom domain is another's machine, whatever says so: a token goes with each request."""
    with pytest.raises(InvalidCall, match="not served in a domain of Hugging Face"):
        Space(id="a/b", subdomain=subdomain).build_url(SPACE_URL_TEMPLATE)


def test_the_address_is_the_form_with_the_subdomain_in_it() -> None:
    description = b'{"id": "a/b", "subdomain": "a-b", "host": "https://evil.com", "runtime": {}}'

    assert parse_space(description).build_url(SPACE_URL_TEMPLATE) == "https://a-b.hf.space"


@pytest.mark.parametrize("description", [b"", b"[]", b"{}", b'{"id": 1}', b"<html>"])
def test_a_description_that_cannot_be_read_is_no_space(description: bytes) -> None:
    with pytest.raises(SpaceUnavailable):
        parse_space(description)


@pytest.mark.parametrize(
    ("stage", "coming", "broken"),
    [
        *(("RUNNING", None, None), ("RUNNING_BUILDING", None, None), ("NEVER_SEEN", None, None)),
        *(("SLEEPING", "is asleep", None), ("APP_STARTING", "is starting", None)),
        *(("PAUSED", None, "was paused by its owner."), ("RUNTIME_ERROR", None, "has crashed.")),
    ],
)
def test_a_stage_says_whether_to_wait(stage: str, coming: str | None, broken: str | None) -> None:
    """What passes is waited for, what only the owner can mend is not."""
    space = Space.model_validate({"id": "a/b", "subdomain": "a", "runtime": {"stage": stage}})

    assert space.pending_stage == coming
    if broken is None:
        space.expect_callable()
    else:
        with pytest.raises(SpaceBroken, match=re.escape(broken)):
            space.expect_callable()


@pytest.mark.parametrize(
    "change",
    [
        *({"api_prefix": "@evil.com"}, {"api_prefix": ".evil.com/"}, {"api_prefix": "//evil.com"}),
        *({"api_prefix": "/../.."}, {"api_prefix": ":80@evil.com"}, {"api_prefix": 7}),
        *({"protocol": "ws"}, {"protocol": "sse"}, {"dependencies": {}}, {"components": None}),
    ],
)
def test_nothing_an_app_says_becomes_part_of_an_address(change: dict[str, Any]) -> None:
    """Its prefix stands right behind the host, where "@evil.com" would make another host of it."""
    with pytest.raises(InvalidCall):
        parse_config(json.dumps(GRADIO_CONFIG | change).encode())


@pytest.mark.parametrize("config", [b"", b"[]", b"null", b"<html>window.gradio_config</html>"])
def test_what_is_no_app_is_said_to_be_none(config: bytes) -> None:
    with pytest.raises(InvalidCall, match="not a Gradio app"):
        parse_config(config)


def test_values_of_gradios_own_are_filled_in_and_left_out() -> None:
    """State is passed by nobody: the function gets it in its place all the same."""
    app = parse_config(json.dumps(GRADIO_CONFIG).encode()).build_api(
        json.dumps(GRADIO_INFO).encode()
    )
    endpoint = app.choose_endpoint(None)

    assert endpoint.fn_index == 7
    assert endpoint.bind_arguments({"text": "x"}) == endpoint.bind_arguments(["x"]) == [None, "x"]
    assert [(output.label, value) for output, value in endpoint.label_results(["said", 3])] == [
        ("Said", "said")
    ]


def test_a_function_that_is_described_as_another_is_not_offered() -> None:
    """An app that describes two values where its function takes one would be called at random."""
    two = {"parameters": [{"parameter_name": name} for name in "ab"]}
    app = parse_config(json.dumps(GRADIO_CONFIG).encode()).build_api(
        json.dumps({"named_endpoints": {"/predict": two}}).encode()
    )

    with pytest.raises(InvalidCall, match="has no endpoint /predict"):
        app.choose_endpoint("/predict")
    assert app.description == "No endpoint of it can be called by name."


@pytest.mark.parametrize(
    ("value", "file"),
    [
        (
            "https://a.org/x/A%20b.PNG?y=1",
            FileArgument("A_b.PNG", "https://a.org/x/A%20b.PNG?y=1", None),
        ),
        (
            {"url": "https://a.org/", "name": "../x.wav"},
            FileArgument("_x.wav", "https://a.org/", None),
        ),
        ({"base64": "aGk=", "name": "/etc/pass wd"}, FileArgument("_etc_pass_wd", None, b"hi")),
        ({"base64": "", "name": ".."}, FileArgument("file", None, b"")),
        ({"base64": "aGk"}, FileArgument("file", None, b"hi")),
        (
            "hf://datasets/ada/cats@v1/old/A b.PNG",
            FileArgument("A_b.PNG", "hf://datasets/ada/cats@v1/old/A b.PNG", None),
        ),
        ({"path": "/etc/passwd", "url": "https://a.org"}, None),
        ({"name": "x"}, None),
        ({}, None),
        (["https://a.org/x"], None),
        (7, None),
    ],
)
def test_a_file_is_a_link_or_its_bytes(value: Any, file: FileArgument | None) -> None:
    """And its name only a name: what comes last in it is what a Space goes by."""
    assert parse_file_argument(value) == file


@pytest.mark.parametrize(
    "value",
    [
        *("/etc/passwd", "file:///etc/passwd", "http://a.org/x", "ftp://a.org", "data:,x", ""),
        *({"url": "/x"}, {"url": "https://a", "base64": "aGk="}, {"base64": "%"}, {"url": None}),
        *({"base64": 7}, {"url": "https://a", "name": 7}),
        *("hf://datasets/ada/cats", "hf://datasets/ada/../bob/x", {"url": "hf:///etc/passwd"}),
    ],
)
def test_nothing_else_is_read_as_a_file(value: Any) -> None:
    """Least of all a path, which would be one of this machine."""
    with pytest.raises(ValueError, match="write"):
        parse_file_argument(value)
