"""What may be a secret is repeated in no message, however a client has cut its line into words."""

import json
import shlex
from collections.abc import Callable
from typing import Final

import pytest

from schema.specs.command_lines.secret_values import HIDDEN, hide_secrets

SECRET: Final = "s3same-0pen-s3same-0pen"
LINES: Final = (
    f"curl -H 'Authorization: Bearer {SECRET}' a.org",
    f'curl -H "Authorization: Basic {SECRET}" a.org',
    f"curl -H 'X-Api-Key: {SECRET}' a.org",
    f"curl --header=Authorization:{SECRET} a.org",
    f'curl -d \'{{"password": "{SECRET}"}}\' a.org',
    f'curl -d \'{{ "api_key" : "{SECRET}" }}\' a.org',
    f"docker login -u ada --password {SECRET}",
    f"docker run -e TOKEN={SECRET} img",
    f"API_KEY={SECRET} python x.py",
    f"python x.py --api-key '{SECRET}'",
    f"git clone https://ada:{SECRET}@a.org/x",
)


def as_quoted_words(line: str) -> str:
    """Quote the words that a client has split at blanks, quotes and all."""
    return shlex.join(line.split())


FORMS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    json.dumps,
    as_quoted_words,
    lambda line: shlex.join(shlex.split(line)),
    lambda line: json.dumps(line.split()),
    lambda line: json.dumps(as_quoted_words(line)),
    lambda line: json.dumps(["sh", "-c", line]),
    lambda line: json.dumps(shlex.split(line)),
    lambda line: json.dumps({"command": json.dumps(line.split())}),
)


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("line", LINES)
def test_a_secret_is_hidden_in_whatever_form_its_line_comes(line: str, form: int) -> None:
    """A model has quoted words, lists, and lists in texts."""
    hidden = hide_secrets(FORMS[form](line))

    assert SECRET not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize("start", ["```\n", "x\t", "a\\\n", "\u00a0", "\r\n"])
@pytest.mark.parametrize("line", [*LINES, f"KEY={SECRET} x", f"--token {SECRET}", "hf_" + "a" * 34])
def test_a_secret_behind_a_line_break_is_hidden_in_json_too(line: str, start: str) -> None:
    """There the break is a letter, and `nKEY` was no name of a secret."""
    for text in (start + line, json.dumps(start + line), json.dumps([json.dumps(start + line)])):
        assert (SECRET in text) != ("hf_" in text)
        hidden = hide_secrets(text)

        assert SECRET not in hidden
        assert "hf_" not in hidden
        assert HIDDEN in hidden


def test_a_backslash_before_a_name_hides_nothing_less() -> None:
    """Its first letter may be the name's own."""
    assert SECRET not in hide_secrets(
        f"\\TOKEN={SECRET}1 \\token={SECRET}1 \\nmy_token='{SECRET}1'"
    )


@pytest.mark.parametrize(
    "line",
    [
        "python train.py --pad-token 0",
        "curl -H 'Accept: text/plain' a.org",
        'python -c "print(sorted(words, key=len))"',
        "echo $TOKEN ${API_KEY}",
        "the bearer of the ring went home",
    ],
)
def test_what_is_no_secret_is_repeated(line: str) -> None:
    """Whoever reads the message has to recognize their line."""
    assert hide_secrets(line) == line
