"""What pydantic finds becomes the end of a sentence of ours (`specs/validation_errors`)."""

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, HttpUrl, TypeAdapter, ValidationError

from schema.specs.validation_errors import describe_problem


def refuse(_: str) -> str:
    message = "HF_TOKEN is taken; choose another name"
    raise ValueError(message)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (int, "x", "input should be a valid integer"),
        (Annotated[str, AfterValidator(refuse)], "x", "HF_TOKEN is taken; choose another name"),
        (HttpUrl, "ftp://h", "URL scheme should be"),
    ],
    ids=["of pydantic", "of ours", "a word in capitals"],
)
def test_a_problem_can_follow_a_colon(kind: Any, value: str, problem: str) -> None:
    """Without a prefix of pydantic's, and no name loses its capital letters."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)

    assert describe_problem(refused.value.errors()[0]).startswith(problem)
