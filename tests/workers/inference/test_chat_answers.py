"""What a model has answered is kept whole; what can be used for nothing is not called a success."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.local.hub_emulator.inference.media import make_png, make_wav
from workers.inference.chat_answers import describe_unusable, parse_chat
from workers.inference.responses import parse_response
from workers.inference.router import RouterResponse

FUNCTION = {"name": "f", "arguments": '{"a": 1}'}
TOOL_CALL = {"id": "c", "type": "function", "function": FUNCTION}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]}
CITATION = {"type": "url_citation", "url": "https://example.com"}


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def make_answer(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, **choice}]}


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (
            make_answer({"content": "42", "reasoning_content": "Six times seven."}),
            {"text": "42", "reasoning": "Six times seven."},
        ),
        (make_answer({"content": "42", "reasoning": "So."}), {"text": "42", "reasoning": "So."}),
        (
            make_answer({"content": "42", "reasoning": "So.", "reasoning_content": "So."}),
            {"reasoning": "So."},
        ),
        (
            make_answer({"content": None, "refusal": "I can't."}),
            {"text": None, "refusal": "I can't."},
        ),
        (make_answer({"tool_calls": [TOOL_CALL]}), {"text": None, "tool_calls": [TOOL_CALL]}),
        (make_answer({"function_call": FUNCTION}), {"text": None, "function_call": FUNCTION}),
        (make_answer({"content": "a"}, logprobs=LOGPROBS), {"text": "a", "logprobs": LOGPROBS}),
        (make_answer({"content": "a", "annotations": [CITATION]}), {"annotations": [CITATION]}),
        (
            {**make_answer({"content": "a [1]"}), "citations": ["https://example.com"]},
            {"text": "a [1]", "citations": ["https://example.com"]},
        ),
        (
            make_answer(
                {
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
                        {"type": "text", "text": "one, ", "annotations": [CITATION]},
                        {"type": "output_text", "text": "two"},
                        {"type": "reference", "reference_ids": [1]},
                    ]
                }
            ),
            {
                "text": "one, two",
                "reasoning": "hmm",
                "annotations": [CITATION],
                "parts": [{"type": "reference", "reference_ids": [1]}],
            },
        ),
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, {"text": "a"}),
        (make_answer({"content": "a", "new_field": {"b": 1}}), {"new_field": {"b": 1}}),
    ],
)
def test_each_part_of_an_answer_is_kept(answer: dict[str, Any], fields: dict[str, Any]) -> None:
    """All of it was paid for, whatever the provider calls it."""
    result, files = parse_chat(answer)

    assert fields.items() <= result.items()
    assert files == []
    assert describe_unusable(result) is None


@pytest.mark.parametrize("indexes", [(0, 1, 2), (2, 0, 1), (None, None, None)])
def test_every_choice_is_kept_in_the_order_of_its_index(indexes: tuple[int | None, ...]) -> None:
    """Providers send them in any order."""
    choices = [
        {"index": index, "message": {"content": f"choice {place if index is None else index}"}}
        for place, index in enumerate(indexes)
    ]

    result, _ = parse_chat({"choices": choices})

    assert result["text"] == "choice 0"
    assert [other["text"] for other in result["other_choices"]] == ["choice 1", "choice 2"]


def test_sound_and_pictures_become_files() -> None:
    """Under a type that was found in them, whatever the provider calls them."""
    sound, picture = make_wav("hello"), make_png("a cat")
    url = f"data:text/html;base64,{encode(picture)}"
    message = {
        "content": None,
        "audio": {"id": "a", "data": encode(sound), "transcript": "hello"},
        "images": [{"type": "image_url", "image_url": {"url": url}}],
    }

    result, files = parse_chat(make_answer(message))

    assert result["text"] == "hello"
    assert result["audio"] == {"id": "a", "transcript": "hello", "file": "audio.wav"}
    assert result["images"] == [{"type": "image_url", "image_url": {"url": "2-image.png"}}]
    assert [(file.name, file.media_type, file.content) for file in files] == [
        ("audio.wav", "audio/wav", sound),
        ("2-image.png", "image/png", picture),
    ]


def test_a_list_too_long_for_a_result_becomes_a_file() -> None:
    """The probabilities of a long answer are many times as long as the answer."""
    logprobs = {"content": LOGPROBS["content"] * 2000}

    result, (file,) = parse_chat(make_answer({"content": "a"}, logprobs=logprobs))

    assert result["logprobs"] == {"file": "logprobs.json"}
    assert json.loads(file.content or b"") == logprobs


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (make_answer({"content": ""}, finish_reason="content_filter"), "no text; a content filter"),
        (make_answer({"content": " \n"}, finish_reason="stop"), "no text; finish_reason is 'stop'"),
        (
            make_answer({"reasoning_content": "Still thinking"}, finish_reason="length"),
            "only reasoning of 14 characters; it was cut off at max_tokens; allow more of them",
        ),
        (
            make_answer({"content": "", "reasoning": "Hm"}, finish_reason="length"),
            "only reasoning of 2 characters",
        ),
        (
            make_answer({"content": [{"type": "thinking", "thinking": "Hm"}]}),
            "only reasoning of 2 characters",
        ),
        (make_answer({"content": []}), "no text"),
        ({"choices": [{"index": 0, "finish_reason": "stop", "message": None}]}, "no text"),
        (make_answer({"content": None}, error={"message": "overloaded"}), "overloaded"),
    ],
)
def test_an_answer_with_nothing_in_it_is_told_from_one(answer: dict[str, Any], words: str) -> None:
    """And it is said what did come back."""
    result, _ = parse_chat(answer)

    assert words in (describe_unusable(result) or "")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "content", "message", "index", "thinking", "audio", "data", "url"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    message=JSON_VALUES,
    content=JSON_VALUES,
    more=st.dictionaries(st.sampled_from(["index", "logprobs", "text"]), JSON_VALUES),
)
def test_no_answer_of_any_shape_is_an_error_of_ours(
    message: Any, content: Any, more: dict[str, Any]
) -> None:
    """It is read, or said to be no answer."""
    choice = {"message": message, **more}
    for answer in ({"choices": [choice]}, make_answer({"content": content}), {"choices": message}):
        try:
            result, _ = parse_chat(answer)
        except (LookupError, TypeError, AttributeError, ValueError):
            continue
        describe_unusable(result)


@pytest.mark.parametrize(
    ("body", "media_type", "text"),
    [
        (b"\xef\xbb\xbf%s", "application/json", "a"),
        (b"%s", "text/plain", "a"),
        (b"%s", "", "a"),
    ],
)
def test_an_answer_is_read_whatever_its_media_type_says(
    body: bytes, media_type: str, text: str
) -> None:
    """A byte order mark does no harm either."""
    content = body.replace(b"%s", json.dumps(make_answer({"content": "a"})).encode())

    output = parse_response("chat-completion", RouterResponse(content, media_type, None))

    assert output.result["text"] == text
