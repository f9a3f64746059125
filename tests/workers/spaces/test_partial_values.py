"""Values that a function yields: as Gradio sends them, and as a hostile Space might."""

import importlib
import json
from copy import deepcopy
from typing import Any, Final

import pytest

from schema.accounts.vault import Secret
from schema.common.text import truncate
from schema.hub.gradio_api import Endpoint, ReturnValue
from workers.artifacts.redaction import Redactor
from workers.spaces.partial_values import (
    MAX_EDITS,
    MAX_EVENT_BYTES,
    MAX_TEXT_CHARS,
    PartialValues,
)

EDITS: Final[list[tuple[Any, list[Any]]]] = [
    ("a", [["append", [], "b"]]),
    ("a", [["replace", [], ["b"]]]),
    (None, [["replace", [], {"x": 1}]]),
    (["a", "b"], [["append", [1], "c"], ["add", [2], "d"], ["replace", [0], None]]),
    ([1, 2, 3, 4], [["replace", [0], 9], ["delete", [2], None], ["delete", [2], None]]),
    ({"x": ["a"], "y": 1}, [["append", ["x", 0], "b"], ["delete", ["y"], None]]),
    ({"x": {"y": [{}]}}, [["add", ["x", "y", 0, "z"], "new"], ["add", ["w"], [1]]]),
    ([], [["add", [0], "a"], ["add", [1], "b"]]),
]
"""A first value, and edits of it such as Gradio's `diff` writes."""
KEY: Final = "correct-horse-battery-staple-41"
HOSTILE_EVENTS: Final[list[Any]] = [
    [[["replace", [7], "x"]]],
    [[["append", ["a"], "x"]]],
    [[["append", [], 1]]],
    [[["erase", [], "x"]]],
    [[["replace", None, "x"]]],
    [[["replace"]]],
    [7],
    [[["append", [], ""]] * (MAX_EDITS + 1)],
    [[["append", [], "x" * MAX_EVENT_BYTES]]],
    [[["replace", [], []], ["add", [10**30], "x"]]],
]
"""What no Gradio app sends, after a first value that is a text."""


def make_endpoint(*labels: str, hidden_first: bool = False) -> Endpoint:
    """Make an endpoint that returns these; one of Gradio's own may come before them."""
    exposed = (*((False,) if hidden_first else ()), *(True for _ in labels))
    return Endpoint(
        name="/yield",
        fn_index=0,
        parameters=(),
        returns=tuple(ReturnValue(label=label, component="Json") for label in labels),
        description="",
        exposed_inputs=(),
        exposed_outputs=exposed,
    )


def assemble(*events: Any, endpoint: Endpoint | None = None, are_edits: bool = True) -> Any:
    """Return the text of the values after these events."""
    values = PartialValues(endpoint or make_endpoint("A"), are_edits=are_edits)
    for event in events:
        values.add(event, len(json.dumps(event)))
    assert values.count == len(events)
    return values.render(Redactor({"KEY": Secret(KEY)}))


@pytest.mark.parametrize(("value", "edits"), EDITS)
def test_edits_make_the_value_that_gradios_own_client_makes(value: Any, edits: list[Any]) -> None:
    """`apply_diff` of that client is the judge."""
    apply_diff: Any = importlib.import_module("gradio_client.utils").apply_diff
    expected = apply_diff(value, edits)

    text = assemble([deepcopy(value)], [edits])

    assert text == (expected if isinstance(expected, str) else json.dumps(expected))


def test_values_that_come_whole_replace_each_other() -> None:
    """Before its protocol sse_v2 Gradio sent no edits."""
    assert assemble(["a"], [[["append", [], "b"]]], are_edits=False) == '[["append", [], "b"]]'


def test_several_values_have_their_labels_and_none_is_gradios_own() -> None:
    """The state of a session is no business of a caller."""
    endpoint = make_endpoint("Text", "", hidden_first=True)

    assert assemble(["state", "a", [1]], endpoint=endpoint) == "Text: a\n2: [1]"


def test_a_file_is_named_and_its_path_is_not_shown() -> None:
    """It is in a folder of the app, and nobody has stored it yet."""
    picture: dict[str, Any] = {"path": "/app/gradio/77/cat.png", "orig_name": "cat.png", "meta": {}}

    assert assemble([[picture, "a cat"]]) == '[{"file": "cat.png"}, "a cat"]'


def test_a_long_value_is_shown_from_both_ends() -> None:
    """The end is what is new."""
    text = assemble(["a" * MAX_TEXT_CHARS], [[["append", [], "the end"]]])

    assert len(text) == MAX_TEXT_CHARS
    assert text.startswith("aaa")
    assert text.endswith("the end")


@pytest.mark.parametrize(
    "event",
    HOSTILE_EVENTS,
)
def test_what_cannot_be_assembled_is_not_shown(event: Any) -> None:
    """Also not later: edits of what is not known would make something that was never yielded."""
    assert assemble(["a"], event) is None
    assert assemble(["a"], event, [[["replace", [], "x"]]]) is None


def test_values_that_grow_without_end_are_let_go() -> None:
    """A Space cannot fill the memory of a worker with what is only shown."""
    half: Any = [[["append", [], "x" * (MAX_EVENT_BYTES // 2)]]]

    assert assemble(["a"], half) is not None
    assert assemble(["a"], *[half] * 5) is None


def test_values_that_are_replaced_again_and_again_are_shown() -> None:
    """Their size counts, not what has come in all."""
    half = "x" * (MAX_EVENT_BYTES // 2)

    assert assemble(["a"], *[[[["replace", [], half + end]]] for end in "abcdefgh"]).endswith("xh")


def test_values_that_are_nested_too_deep_are_not_shown() -> None:
    """Each event nests them deeper, and the writer of JSON has a limit."""
    hundred_levels = json.loads("[" * 100 + "]" * 100)
    deeper = [["add", [0] * 100 * step, deepcopy(hundred_levels)] for step in range(1, 12)]

    assert assemble([hundred_levels], [deeper]) is None


def test_a_number_that_cannot_be_written_is_not_shown() -> None:
    """Python writes no number of more than 4,300 digits, and edits can add two of 4,300."""
    assert assemble([10**4299], [[["append", [], 9 * 10**4299]]]) is None


def test_of_a_long_value_the_ends_are_shown() -> None:
    """The text is that of the whole value, cut."""
    picture: dict[str, Any] = {"path": "/x/a.png", "meta": {}}
    numbers = list(range(20_000))
    value: dict[str, Any] = {"a": [picture, None, 1.5], "b": numbers, "c": {"é": ["end"]}}
    whole = json.dumps(value | {"a": [{"file": "a.png"}, None, 1.5]}, ensure_ascii=False)

    assert assemble([value]) == truncate(whole, MAX_TEXT_CHARS, keeps_end=True)


@pytest.mark.parametrize("cut", range(0, len(KEY) + 1, 6))
def test_no_part_of_a_secret_is_shown_where_the_text_is_cut(cut: int) -> None:
    """Secrets are replaced first."""
    half = MAX_TEXT_CHARS // 2
    text = "s" * (half - cut) + KEY + "m" * 50_000 + KEY + "e" * (half - cut)

    for value in (text, [text], text.replace("m" * 50_000, "m")):
        shown = assemble([value])

        assert len(shown) <= MAX_TEXT_CHARS
        assert not any(KEY[at : at + 4] in shown for at in range(len(KEY) - 3))
