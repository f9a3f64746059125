"""Files in the values of real Gradio components, and texts beside them that are none."""

from functools import cache
from importlib import import_module
from typing import Any

import pytest

from schema.hub.gradio_api import Parameter
from schema.hub.gradio_shapes import ValueShape
from schema.specs.inputs.file_argument import FileArgument

URL = "https://example.com/cat.png"
FILE = {"url": URL}
CAT = FileArgument("cat.png", URL, None)


@cache
def describe(component: str, **options: Any) -> dict[str, Any]:
    """Return what an app says about the value of a component."""
    gradio = import_module("gradio")  # it takes seconds, so only where a test here runs
    schema: dict[str, Any] = getattr(gradio, component)(**options).api_info()
    return schema


@pytest.mark.parametrize(
    ("component", "value", "parsed"),
    [
        ("Image", URL, CAT),
        ("Image", FILE, CAT),
        ("Image", None, None),
        ("Audio", FILE, CAT),
        ("Video", FILE, CAT),
        ("Textbox", URL, URL),
        ("Textbox", "what is this", "what is this"),
        (
            "MultimodalTextbox",
            {"text": "what is this", "files": [FILE, URL]},
            {"text": "what is this", "files": [CAT, CAT]},
        ),
        (
            "MultimodalTextbox",
            {"text": URL, "files": []},
            {"text": URL, "files": []},
        ),
        (
            "Chatbot",
            [
                {"role": "user", "content": [{"type": "text", "text": "and this?"}]},
                {"role": "user", "content": [{"type": "file", "file": FILE, "alt_text": "a cat"}]},
            ],
            [
                {"role": "user", "content": [{"type": "text", "text": "and this?"}]},
                {"role": "user", "content": [{"type": "file", "file": CAT, "alt_text": "a cat"}]},
            ],
        ),
        (
            "Gallery",
            [{"image": FILE, "caption": "my cat"}, {"video": URL, "caption": None}],
            [{"image": CAT, "caption": "my cat"}, {"video": CAT, "caption": None}],
        ),
        ("ImageSlider", [FILE, None], [CAT, None]),
        (
            "ImageEditor",
            {"background": FILE, "layers": [FILE], "composite": None, "id": "a"},
            {"background": CAT, "layers": [CAT], "composite": None, "id": "a"},
        ),
        (
            "AnnotatedImage",
            {"image": FILE, "annotations": [{"image": FILE, "label": "cat"}]},
            {"image": CAT, "annotations": [{"image": CAT, "label": "cat"}]},
        ),
        (
            "Dataframe",
            {"headers": ["url"], "data": [[URL]], "metadata": None},
            {"headers": ["url"], "data": [[URL]], "metadata": None},
        ),
    ],
)
def test_a_file_is_one_only_where_the_app_takes_one(
    component: str, value: Any, parsed: Any
) -> None:
    """The text of a chat was refused, as it is no address; and an address in it is no file."""
    assert ValueShape(describe(component)).parse_files(value) == parsed


@pytest.mark.parametrize(
    ("component", "value"),
    [
        ("Image", "/etc/passwd"),
        ("Image", {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}),
        ("Image", 5),
        ("Image", ["https://example.com/cat.png"]),
        ("MultimodalTextbox", {"text": "x", "files": ["/etc/passwd"]}),
        ("MultimodalTextbox", {"text": "x", "files": [{"path": "/etc/passwd"}]}),
        ("Gallery", [{"image": {"path": "/etc/passwd"}, "caption": "x"}]),
    ],
)
def test_what_is_no_file_is_refused_where_one_has_to_be(component: str, value: Any) -> None:
    """A path would be read on the machine of the Space."""
    with pytest.raises(ValueError, match=r"write \{\"url\": \"https://…\"\} \(or"):
        ValueShape(describe(component)).parse_files(value)


@pytest.mark.parametrize(
    ("component", "label"),
    [
        ("Image", "file"),
        ("Gallery", "Dict(text: str, files: List[filepath])"),
        ("MultimodalTextbox", "Dict(text: str, files: List[filepath])"),
    ],
)
def test_a_parameter_is_named_by_what_it_takes(component: str, label: str) -> None:
    """A chat is no file, and a caller who reads so sends the wrong thing."""
    parameter = Parameter.model_validate(
        {
            "parameter_name": "message",
            "type": describe(component),
            "python_type": {"type": "Dict(text: str, files: List[filepath])"},
        }
    )

    assert parameter.type_label == label


def test_a_list_of_files_is_called_so() -> None:
    """One of its items is passed as the only file of another parameter."""
    parameter = Parameter.model_validate({"type": describe("File", file_count="multiple")})

    assert parameter.type_label == "list of files"


def test_an_example_shows_how_a_file_is_passed() -> None:
    """The example of the app has a path in it, which nobody can pass."""
    parameter = Parameter.model_validate(
        {
            "type": describe("MultimodalTextbox"),
            "example_input": {
                "text": "what is this",
                "files": [{"path": "x.png", "meta": {"_type": "gradio.FileData"}}],
            },
        }
    )

    assert parameter.example_value == {
        "text": "what is this",
        "files": [{"url": "https://example.com/picture.png"}],
    }


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    """An app could keep the service busy for ever."""
    shape = ValueShape({"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"})

    assert shape.parse_files({"a": [1]}) == {"a": [1]}
