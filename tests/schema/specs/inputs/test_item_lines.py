"""Lines of batch files for OpenAI, and texts of them, as items of a batch."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from schema.specs.batch import BatchSpec, InvalidItem, Item, ItemCollector
from schema.specs.inputs.item_lines import read_item_lines

MODEL = "Qwen/Qwen3-32B"
MESSAGES = [{"role": "user", "content": "Hi"}]


def make_line(**overrides: Any) -> dict[str, Any]:
    """Make a line for OpenAI; None takes a field away."""
    line = {
        "custom_id": "request-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": MODEL, "messages": MESSAGES, "max_tokens": 5, "stream": False},
    }
    return {name: value for name, value in (line | overrides).items() if value is not None}


def collect(line: dict[str, Any], task: str = "chat-completion") -> dict[str, Any]:
    """Return what is stored of a line, in a batch with a model and a task."""
    spec = BatchSpec.model_validate(
        {"model": MODEL, "task": task, "items_from": "hf://datasets/ada/set/items.jsonl"}
    )
    items = ItemCollector(spec)
    items.add("items[0]", Item.model_validate(line))
    return items.requests[0].request


@pytest.mark.parametrize(
    "line",
    [
        make_line(),
        make_line(method=None),
        make_line(method="post"),
        make_line(url=None),
        make_line(url="https://api.openai.com/v1/chat/completions"),
        make_line(url="chat/completions"),
        make_line(body={"messages": MESSAGES, "max_tokens": 5}),
    ],
)
def test_a_chat_is_asked_as_the_line_says(line: dict[str, Any]) -> None:
    """People have their batches in such files already."""
    assert collect(line) == {"inputs": MESSAGES, "parameters": {"max_tokens": 5}}


@pytest.mark.parametrize(
    ("url", "body", "task", "inputs"),
    [
        ("/v1/embeddings", {"input": ["a", "b"]}, "feature-extraction", ["a", "b"]),
        ("/v1/completions", {"prompt": "Once"}, "text-generation", "Once"),
    ],
)
def test_the_address_says_the_task(url: str, body: Any, task: str, inputs: Any) -> None:
    """Each task has its inputs under a name of its own."""
    line = make_line(url=url, body={"model": MODEL, **body})

    assert Item.model_validate(line).task == task
    assert collect(line, task)["inputs"] == inputs
    with pytest.raises(InvalidItem, match=rf'it is for {task}.*give task="{task}"'):
        collect(line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (make_line(url="/v1/responses"), "a batch takes /v1/chat/completions"),
        (make_line(method="GET"), "only POST asks a model"),
        (make_line(body="x"), "body is not an object"),
        (make_line(body={"model": MODEL}), "body has no messages"),
        (make_line(custom_id=None), "custom_id"),
    ],
)
def test_a_line_for_what_a_batch_does_not_do_is_refused_in_words(
    line: dict[str, Any], says: str
) -> None:
    """Not with a list of our own fields, which such a line does not have."""
    with pytest.raises(ValidationError, match=says):
        Item.model_validate(line)


def test_a_line_for_another_model_is_refused_with_both_names() -> None:
    """The other model would be paid for, and not asked."""
    line = make_line(body={"model": "gpt-4o", "messages": MESSAGES})

    with pytest.raises(InvalidItem, match=rf"it asks 'gpt-4o', and the batch asks '{MODEL}'"):
        collect(line)


def test_what_a_line_asks_for_and_no_batch_takes_is_refused() -> None:
    """An answer in pieces cannot be kept as one."""
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}

    with pytest.raises(InvalidItem, match="'stream' is not a parameter here"):
        collect(make_line(body=body))


def test_a_text_of_lines_is_read_line_by_line() -> None:
    """As the file has them; empty lines do not count."""
    text = f"{json.dumps(make_line())}\n\n{json.dumps(make_line(custom_id='b'))}\n"

    assert read_item_lines(text) == [make_line(), make_line(custom_id="b")]
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_item_lines('{"custom_id": "a"}\nnot json')
