"""Named parameters: `parse_statement` and `Statement.bind`."""

import pytest

from schema.db.database import Database
from schema.db.sql import Statement, parse_statement


def test_names_become_numbers_in_the_order_in_which_they_first_stand() -> None:
    statement = parse_statement("SELECT :b::int, :a, :b FROM job WHERE id = ANY(:ids::uuid[])")

    assert statement == "SELECT $1::int, $2, $1 FROM job WHERE id = ANY($3::uuid[])"
    assert statement.parameters == ("b", "a", "ids")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT now()::text, '{}'::jsonb::text",
        "SELECT 'a :name' || 'it''s :name'",
        r"SELECT E'it\'s :name'",
        'SELECT 1 AS "a :name ""and"" :name"',
        "SELECT 1 -- :name and 'no literal\n",
        "SELECT 1 /* :name,\n 'no literal */",
        "SELECT $$ :name $1 $$, $tag$ :name $$ :name $tag$",
        "SELECT lines[1:2], lines[first:last], lines[first:]",
        "SELECT f(x := 1)",
        "SELECT a$1",
    ],
)
def test_what_only_looks_like_a_parameter_is_left_alone(text: str) -> None:
    statement = parse_statement(f"{text} WHERE :name")

    assert statement == f"{text} WHERE $1"
    assert statement.parameters == ("name",)


def test_values_are_put_in_order_by_their_names() -> None:
    statement = parse_statement("SELECT :first, :second, :first")

    assert statement.bind(second=2, first=1) == ("SELECT $1, $2, $1", 1, 2)


def test_a_missing_or_unknown_name_fails_at_the_call() -> None:
    statement = parse_statement("SELECT :first, :second")

    with pytest.raises(TypeError, match=r"missing parameters: \['second'\]"):
        statement.bind(first=1)
    with pytest.raises(TypeError, match=r"unknown parameters: \['third'\]"):
        statement.bind(first=1, second=2, third=3)


def test_a_null_is_a_value() -> None:
    assert parse_statement("SELECT :first").bind(first=None) == ("SELECT $1", None)


@pytest.mark.parametrize("text", ["SELECT :name, $1", "SELECT $1::int, :name::int"])
def test_numbers_beside_names_fail_at_import(text: str) -> None:
    with pytest.raises(ValueError, match=r"\$1 stands beside names"):
        parse_statement(text)


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT ':name'"])
def test_a_statement_without_names_fails_at_import(text: str) -> None:
    with pytest.raises(ValueError, match="no named parameters"):
        parse_statement(text)


async def test_postgres_runs_a_bound_statement(database: Database) -> None:
    """asyncpg takes the text that `bind` returns, and not the statement: that is no plain `str`."""
    statement = parse_statement("SELECT :text::text || ':text' || left(:text, :length)")

    async with database.transaction() as tx:
        answer = await tx.fetchval(*statement.bind(length=2, text="abc"))

    assert answer == "abc:textab"
    assert isinstance(statement, Statement)
    assert type(statement.bind(length=2, text="abc")[0]) is str
