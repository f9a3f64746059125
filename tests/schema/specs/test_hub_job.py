"""What may be asked for: forgiving in form, strict in meaning, and refused with the right form."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.hub_job import HubJobSpec, Labels
from schema.specs.inference import InferenceSpec

MESSAGE = {"role": "user", "content": "Hi"}


def make_spec(**overrides: Any) -> HubJobSpec:
    return HubJobSpec.model_validate({"image": "python:3.12", "command": ["true"]} | overrides)


@pytest.mark.parametrize(
    ("field", "wrong", "says"),
    [
        ("command", [], "at least 1"),
        ("command", ["a", ""], "empty words"),
        ("command", "'a", "quotes do not match"),
        ("flavor", "A10G!", "hardware flavor"),
        ("timeout", 0, "is not positive.* from 1s to 30d is allowed"),
        ("timeout", "-5", "is not positive.* from 1s to 30d is allowed"),
        ("timeout", True, "is not a duration"),
        ("timeout", "250ms", "too short; from 1s to 30d is allowed"),
        ("timeout", "2 years", "is not a duration"),
        ("timeout", "90 days", "'90 days' is too long; from 1s to 30d is allowed"),
        ("env", {"_A": "x"}, "not a name the Hub takes"),
        ("env", {"A": "x"}, "not a name the Hub takes"),
        ("env", {"HOLDFAST_RUN": "x"}, "reserved"),
        ("env", {"1A": "x", "B C": "y"}, r"'1A', 'B C' are not a name the Hub takes.*BATCH_SIZE"),
        ("env", {"A1": None}, "valid string"),
        ("env", ["A1"], r'write an object, such as \{"NAME": "value"\}'),
        ("env", ["A1=x", "A1=y"], "A1 is given more than once"),
        ("env", {"A1": "x" * (131_071 - 2)}, "A1 has 131,072 bytes"),
        ("env", {"A1": "é" * 65_536}, "A1 has 131,075 bytes"),
        ("env", [{"name": "A1", "value": "x"}, "A1=y"], "A1 is given more than once"),
        ("env", [{"name": "A1"}], r'write an object, such as \{"NAME": "value"\}'),
        (
            "env",
            [{"name": "A1", "valueFrom": {"x": "y"}}],
            r'write an object, such as \{"NAME": "value"\}',
        ),
        ("image", "", "at least 1"),
        ("image", "https://docker.io/python", "without scheme or spaces"),
        ("image", "python 3.12", "without scheme or spaces"),
        ("gpus", 1, "not permitted"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_there_is_a_handle(
    field: str, wrong: object, says: str
) -> None:
    """Nothing is queued that can never be launched."""
    with pytest.raises(ValidationError, match=says):
        make_spec(**{field: wrong})


@pytest.mark.parametrize(
    "env",
    [
        {"A1": "x", "B2": "3", "C3": "true", "D4": "a=b"},
        {"A1": "x", "B2": 3, "C3": True, "D4": "a=b"},
        ["A1=x", "B2=3", "C3=true", "D4=a=b"],
        [
            {"name": "A1", "value": "x"},
            {"name": "B2", "value": 3},
            {"name": "C3", "value": True},
            "D4=a=b",
        ],
    ],
)
def test_variables_are_taken_in_the_forms_of_compose_files_and_manifests(env: object) -> None:
    """People paste what they have."""
    assert make_spec(env=env).env == {"A1": "x", "B2": "3", "C3": "true", "D4": "a=b"}


@pytest.mark.parametrize(
    "labels", [{"a b": "x"}, {"a": "x.y"}, {"a": "x" * 101}, {"": "x"}, {"holdfast-run": "x"}]
)
def test_labels_the_hub_would_refuse_or_that_are_ours_are_refused(labels: dict[str, str]) -> None:
    """A run is found again by its label; nobody else may write that one."""
    with pytest.raises(ValidationError):
        TypeAdapter(Labels).validate_python(labels)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"env": {"N1": 1}}, {"env": {"N1": "1"}}),
        ({"env": {"LR": 0.1, "ON": True}}, {"env": {"LR": "0.1", "ON": "true"}}),
        ({"env": ["N1=1", "URL=a=b"]}, {"env": {"N1": "1", "URL": "a=b"}}),
        ({"flavor": "A10G_Large "}, {"flavor": "a10g-large"}),
        ({"image": " python:3.12\n"}, {"image": "python:3.12"}),
        ({"timeout": "PT1H30M"}, {"timeout": 5400}),
    ],
)
def test_a_plain_meaning_is_understood_in_whichever_form(
    written: dict[str, Any], meant: dict[str, Any]
) -> None:
    """Nobody is sent back for a spelling that can mean only one thing."""
    assert make_spec(**written) == make_spec(**meant)


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        ({"a b": "x.y"}, '{"a-b": "x-y"}'),
        ({"run": "ada/llama:1"}, '{"run": "ada-llama-1"}'),
        ({"ok": "1", "t": "x" * 101}, '{"t": "' + "x" * 100 + '"}'),
    ],
)
def test_a_label_that_the_hub_would_refuse_comes_with_one_it_takes(
    labels: dict[str, str], right: str
) -> None:
    """What is shown can be pasted; what was right is left alone."""
    with pytest.raises(ValidationError, match=re.escape(f"write {right}")):
        TypeAdapter(Labels).validate_python(labels)


def test_what_a_call_would_set_by_itself_is_not_dropped_in_silence() -> None:
    """Somebody who asks for a stream would wait for one."""
    with pytest.raises(ValidationError, match="'stream' is not a parameter here"):
        InferenceSpec.model_validate(
            {"model": "m", "inputs": [MESSAGE], "parameters": {"stream": True}}
        )


def test_a_spec_is_stored_as_the_same_request_gives_it_again() -> None:
    """Two requests under one key are compared by this."""
    assert make_spec(timeout="1h").to_stored_json() == make_spec(timeout=3600).to_stored_json()
    assert HubJobSpec.model_validate(make_spec(env={"A1": "x"}).to_stored_json()) == make_spec(
        env={"A1": "x"}
    )


def test_an_inference_call_needs_a_model_and_something_to_say() -> None:
    """An empty call would still be paid for."""
    with pytest.raises(ValidationError):
        InferenceSpec.model_validate({"model": "m", "inputs": []})
