"""What may be asked for: forgiving in form, strict in meaning, and refused with the right form."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.spec import HubJobSpec, InferenceSpec, Labels


def job(**overrides: Any) -> HubJobSpec:
    return HubJobSpec.model_validate({"image": "python:3.12", "command": ["true"]} | overrides)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (["python", "-c", "print(1); x | y"], ["python", "-c", "print(1); x | y"]),
        ("python -c 'print(1); x | y'", ["python", "-c", "print(1); x | y"]),
        ('echo "a b" c', ["echo", "a b", "c"]),
    ],
)
def test_a_command_is_a_list_or_one_string(written: object, words: list[str]) -> None:
    """Quotes mean what they mean to a shell; nothing else does."""
    assert job(command=written).command == words


@pytest.mark.parametrize("written", ["a && b", "a;b", "a | b", "a > f", "a &", "(a)"])
def test_what_needs_a_shell_is_refused_with_the_form_that_calls_one(written: str) -> None:
    """Run without a shell it would do something else, at the caller's cost."""
    with pytest.raises(ValidationError, match=r"\['sh', '-c', "):
        job(command=written)


@pytest.mark.parametrize(
    ("field", "wrong", "says"),
    [
        ("command", [], "at least 1"),
        ("command", ["a", ""], "empty words"),
        ("command", "'a", "quotes do not match"),
        ("flavor", "A10G!", "hardware flavor"),
        ("timeout", 0, "longer than nothing"),
        ("env", {"_A": "x"}, "not a name the Hub takes"),
        ("env", {"A": "x"}, "not a name the Hub takes"),
        ("env", {"HOLDFAST_RUN": "x"}, "reserved"),
        ("image", "", "at least 1"),
        ("gpus", 1, "not permitted"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_there_is_a_handle(
    field: str, wrong: object, says: str
) -> None:
    """Nothing is queued that can never be launched."""
    with pytest.raises(ValidationError, match=says):
        job(**{field: wrong})


@pytest.mark.parametrize(
    "labels", [{"a b": "x"}, {"a": "x.y"}, {"a": "x" * 101}, {"": "x"}, {"holdfast-run": "x"}]
)
def test_labels_the_hub_would_refuse_or_that_are_ours_are_refused(labels: dict[str, str]) -> None:
    """A run is found again by its label; nobody else may write that one."""
    with pytest.raises(ValidationError):
        TypeAdapter(Labels).validate_python(labels)


def test_a_spec_is_stored_as_the_same_request_gives_it_again() -> None:
    """Two requests under one key are compared by this."""
    assert job(timeout="1h").stored() == job(timeout=3600).stored()
    assert HubJobSpec.model_validate(job(env={"A1": "x"}).stored()) == job(env={"A1": "x"})


def test_an_inference_call_needs_a_model_and_something_to_say() -> None:
    """An empty call would still be paid for."""
    with pytest.raises(ValidationError):
        InferenceSpec.model_validate({"model": "m", "messages": []})
