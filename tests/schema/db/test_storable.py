"""What Postgres cannot store is refused in arguments and replaced in answers (`db/storable`)."""

import json
from typing import Any

import pytest

from schema.common.errors import Invalid
from schema.db.database import Database
from schema.db.storable import expect_storable, to_storable

UNSTORABLE: dict[str, Any] = {
    "a NUL character": "a\0b",
    "half of a surrogate pair": "half \ud83d of it",
    "a number that is not finite": float("inf"),
    "an integer of more than 64 bits": 10**5000,
    "a value below 100 levels of others": json.loads("[" * 900 + "]" * 900),
}


@pytest.mark.parametrize("problem", UNSTORABLE)
def test_an_argument_that_cannot_be_stored_is_named(problem: str) -> None:
    """However deep in it the text or the number is."""
    for notes in (UNSTORABLE[problem], [{"x": [UNSTORABLE[problem]]}]):
        with pytest.raises(Invalid, match=f"^notes contains {problem}, which cannot be stored"):
            expect_storable({"title": "fine", "notes": notes})


@pytest.mark.parametrize("text", ["a\0b", "half \udc00"])
def test_a_name_inside_of_an_argument_is_looked_at_too(text: str) -> None:
    """An object's names are stored as its values are."""
    with pytest.raises(Invalid, match=r"^env contains "):
        expect_storable({"env": {text: "1"}})


def test_what_can_be_stored_is_left_as_it_is() -> None:
    """A whole surrogate pair is one character, and a large number is finite."""
    deepest = json.loads("[" * 100 + "]" * 100)
    numbers = [1, 1.5, 1e300, 2**64 - 1, -(2**63), True, None]
    answer = {"text": "é 👍\n", "numbers": numbers, "deepest": deepest}

    expect_storable(answer)

    assert to_storable(answer) == answer


async def test_a_replaced_answer_is_stored_by_postgres(database: Database) -> None:
    """Both as JSON and as text: that is what the policy is for."""
    answer = to_storable({"a\0": [*UNSTORABLE.values(), "fine"]})
    levels = json.dumps(answer["a\ufffd"].pop(4))
    assert answer == {"a\ufffd": ["a\ufffdb", "half ? of it", None, None, "fine"]}
    assert levels == "[" * 99 + "null" + "]" * 99

    async with database.transaction() as tx:
        stored = await tx.fetchval("SELECT $1::jsonb", answer)
        text = await tx.fetchval("SELECT $1::text", json.dumps(answer, ensure_ascii=False))

    assert stored == answer
    assert json.loads(text) == answer
