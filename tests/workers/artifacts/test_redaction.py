"""The promises about secrets in what a job prints: none is kept, and nothing else is changed."""

import base64
import json
import re
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schema.accounts.vault import Secret
from workers.artifacts.log_capture import MAX_LINE_CHARS, LineBuffer
from workers.artifacts.redaction import Redactor
from workers.artifacts.secret_parts import is_redactable
from workers.hub.log_stream import GAP, LogStreamParser

KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSj+Ag/EAA=\n-----END KEY-----"

TEXT = st.text(alphabet="abc xyz.\té", max_size=30)
"""Text without any character of a secret, and none that a form of one has."""
LETTERS = "ABCDEFGH0123456789!§"
ONE_LINE = st.text(alphabet=LETTERS, min_size=6, max_size=12).filter(is_redactable)
SECRETS = st.one_of(ONE_LINE, st.lists(ONE_LINE, min_size=2, max_size=4).map("\n".join))


def make_redactor(**secrets: str) -> Redactor:
    return Redactor({name: Secret(text) for name, text in secrets.items()})


def test_a_token_and_a_secret_of_its_name_are_both_found() -> None:
    """`Redactor` replaces neither by the other: a job may have an HF_TOKEN that is not ours."""
    redactor = Redactor({"HF_TOKEN": Secret("hers-1234-x")}, Secret("ours-1234-y"))

    assert redactor.redact("hers-1234-x ours-1234-y") == "[redacted:HF_TOKEN] [redacted:HF_TOKEN]"


def redact_in_chunks(redactor: Redactor, lines: list[str], cuts: set[int]) -> list[str]:
    """Keep lines as captures do: in chunks, and with a worker that starts anew at each cut."""
    stored: list[str] = []
    for end in [*sorted(cut for cut in cuts if cut < len(lines)), len(lines)]:
        context_lines = min(len(stored), redactor.max_secret_lines - 1)
        buffer = LineBuffer(redactor, context_lines)
        for number, line in enumerate(lines[len(stored) - context_lines : end]):
            buffer.add_line(line)
            if number % 3 == 2:
                stored += buffer.take_chunk()
        stored += buffer.take_chunk(is_last=end == len(lines))
    return stored


@given(
    secrets=st.lists(SECRETS, min_size=1, max_size=3, unique=True),
    around=st.lists(TEXT, min_size=1, max_size=8),
    choices=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    cuts=st.sets(st.integers(0, 30)),
)
def test_no_secret_is_kept_and_nothing_else_is_changed(
    secrets: list[str], around: list[str], choices: list[int], cuts: set[int]
) -> None:
    """Whatever is printed around them, and wherever chunks, captures and workers end."""
    text, expected = around[0], around[0]
    for part, choice in zip(around[1:], choices, strict=False):
        secret = secrets[choice % len(secrets)]
        text += secret + part
        expected += "\n".join("\0" for _ in secret.split("\n")) + part
    redactor = Redactor({f"S{place}": Secret(secret) for place, secret in enumerate(secrets)})

    stored = "\n".join(redact_in_chunks(redactor, text.split("\n"), cuts))

    # Marks that touch are of secrets that overlap: which of them is named is no promise.
    for place in range(len(secrets)):
        stored = stored.replace(f"[redacted:S{place}]", "\0")
    while "\0\0" in stored or "\0\0" in expected:
        stored, expected = stored.replace("\0\0", "\0"), expected.replace("\0\0", "\0")
    assert stored == expected
    assert not set(LETTERS) & set(stored)


@given(
    lines=st.lists(st.text(alphabet="ab\n", max_size=4), max_size=30),
    cuts=st.sets(st.integers(0, 30)),
)
def test_where_chunks_end_makes_no_difference(lines: list[str], cuts: set[int]) -> None:
    """Not even for secrets that overlap with themselves, over any number of lines."""
    redactor = make_redactor(
        A="aaaa\naa\nab1", B="ab\nab\nba1", C="bbbbbbb1\nb", D="a\nb\na\nb\na\nb1"
    )

    assert redact_in_chunks(redactor, lines, cuts) == redactor.redact_lines(lines)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.replace("\n", "\r\n"),
        json.dumps({"key": KEY}),
        repr(KEY),
        quote(KEY, safe=""),
        re.sub("%..", lambda match: match[0].lower(), quote(KEY)),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(f"u:{KEY}".encode()).decode(),
        base64.b64encode(f"user:{KEY}:x".encode()).decode(),
    ],
)
def test_a_secret_is_found_in_any_form_it_is_likely_to_have(form: str) -> None:
    """Programs print requests, headers and settings, in which a secret is not written plainly."""
    hidden = make_redactor(KEY=KEY).redact(f"before {form} after")

    assert "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" not in hidden
    assert base64.b64encode(b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC").decode()[2:30] not in hidden
    assert (hidden[:7], hidden[-6:]) == ("before ", " after")
    assert "[redacted:KEY]" in hidden
    assert len(hidden) < 100


PEM_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
PEM = f"-----BEGIN PRIVATE KEY-----\n{PEM_LINE}\n-----END PRIVATE KEY-----"
ACCOUNT: dict[str, Any] = {
    "type": "service_account",
    "region": "europe-west4",
    "auth": {"accounts": [{"user": "admin", "password": "hunter2!x", "pin": "swordfish-a"}]},
    "private_key_id": "f871b60d0617be19393bb66ea142887fc9621360",
    "client_id": 123456789012345,
    "private_key": f"{PEM}\n",
    "inner": json.dumps({"api_key": "k3y-\n-of-two-lines"}),
}
ENV_FILE = "# settings\nexport API_KEY='s3cr3t-9f8e'\nMODE=fast\nKEY=\"one\\ntwo-of-it-9\"\nURL=x://u:p%40ss-w0rd@h/d"


@pytest.mark.parametrize(
    ("secret", "printed"),
    [
        (json.dumps(ACCOUNT, indent=indent), printed)
        for indent in (None, 2)
        for printed in [
            "hunter2!x",
            ACCOUNT["private_key_id"],
            "123456789012345",
            PEM,
            PEM_LINE,
            repr(PEM)[1:-1],
            json.dumps(PEM)[1:-1],
            base64.b64encode(b"hunter2!x").decode(),
            quote("hunter2!x", safe=""),
            "k3y-\n-of-two-lines",
        ]
    ]
    + [
        (base64.b64encode(json.dumps(ACCOUNT).encode()).decode(), "hunter2!x"),
        (base64.encodebytes(json.dumps(ACCOUNT).encode()).decode(), PEM_LINE),
        (json.dumps([{"password": "swordfish-a"}]), "swordfish-a"),
        (ENV_FILE, "s3cr3t-9f8e"),
        (ENV_FILE, "one\ntwo-of-it-9"),
        (ENV_FILE, "p@ss-w0rd"),
        ("AccountName=x;AccountKey=b64/Key+9==;Suffix=core", "b64/Key+9=="),
        ("postgresql://ada:p%40ss-w0rd@db.example/main", "p@ss-w0rd"),
    ],
)
def test_a_part_of_a_secret_is_found_as_a_program_prints_it(secret: str, printed: str) -> None:
    """A key is parsed by every library that takes it; what is printed is a value of it."""
    redacted = make_redactor(SA=secret).redact_lines(f"got {printed} here".split("\n"))

    assert re.sub(r"\[redacted:SA\]", "", "\n".join(redacted)).split() == ["got", "here"]


@given(
    values=st.recursive(
        st.text(alphabet=LETTERS + '\n"\\é', min_size=12, max_size=30).filter(
            lambda text: "\n" not in text.strip() and len(text.strip()) >= 12
        ),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(st.text(alphabet="abc", min_size=1), inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_no_value_of_a_json_secret_is_kept(values: Any) -> None:
    """However deep it stands, and whatever had to be escaped in it."""
    redactor = make_redactor(SA=json.dumps({"all": values}))

    for value in _leaves(values):
        assert not set(LETTERS) & set(
            redactor.redact(f"- {value.strip()} -").replace("[redacted:SA]", "")
        )


def _leaves(values: Any) -> list[str]:
    if isinstance(values, str):
        return [values]
    inside = cast("list[Any]", [*values.values()] if isinstance(values, dict) else values)
    return [leaf for value in inside for leaf in _leaves(value)]


def test_common_words_in_a_secret_do_not_spoil_the_log() -> None:
    """A service account names its type and its region, and so does every line about it."""
    text = "using service_account admin in europe-west4, MODE=fast"

    assert make_redactor(SA=json.dumps(ACCOUNT), ENV=ENV_FILE).redact(text) == text


def test_a_key_is_found_over_lines_and_each_line_says_so() -> None:
    """The number of a line is its cursor: no line goes missing."""
    lines = ["a", f"x{KEY.splitlines()[0]}", *KEY.splitlines()[1:], "b"]

    assert make_redactor(KEY=KEY).redact_lines(lines) == [
        *("a", "x[redacted:KEY]", "[redacted:KEY]", "[redacted:KEY]", "[redacted:KEY]", "b")
    ]


def test_a_line_of_a_key_is_found_alone_if_it_says_nothing_else() -> None:
    """A logger puts the time before each line; what every key begins with stays."""
    lines = [f"12:00 {line}" for line in KEY.splitlines()]

    assert make_redactor(KEY=KEY).redact_lines(lines)[:2] == [lines[0], "12:00 [redacted:KEY]"]


@pytest.mark.parametrize("plain", ["1", "true", "12345", "20261121", "production", "Admin", "3.14"])
def test_a_secret_that_is_a_plain_word_does_not_spoil_the_log(plain: str) -> None:
    """`step 1 of 10` is still `step 1 of 10` when somebody calls 1 a secret."""
    text = f"step {plain} of {plain}0, in {plain}"

    assert make_redactor(N=plain).redact(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("<abc123def456ghi>", "<[redacted:A]>"),
        ("<x7x7x7x7x7>", "<[redacted:C]>"),
        ("<(in abc123def out)>", "<[redacted:D]>"),
    ],
)
def test_nothing_is_left_of_secrets_that_overlap(text: str, hidden: str) -> None:
    """With each other, with themselves, or one in another."""
    redactor = make_redactor(A="abc123def", B="def456ghi", C="x7x7x7x7", D="(in abc123def out)")

    assert redactor.redact(text) == hidden


def test_a_short_secret_that_is_no_word_is_found() -> None:
    """Six characters are enough, if they are not a word or a number."""
    assert make_redactor(PIN="x7!kQ2").redact("it is x7!kQ2.") == "it is [redacted:PIN]."


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "aB3" * 12,
        "api_org_" + "aB3" * 12,
        "hf_oauth_eyJhbGciOi.eyJzdWIi-_.c2ln",
        "hf_jwt_eyJhbGciOi.eyJzdWIi-_.c2ln",
        "hf_oauth__refresh_" + "aB3_" * 8,
    ],
)
def test_a_token_that_nobody_declared_is_known_by_its_shape(token: str) -> None:
    """A job may have a token of its own, in its image or its code."""
    assert make_redactor().redact(f"token={token}, next") == "token=[redacted:token], next"


@pytest.mark.parametrize(
    "word",
    [
        "hf_hub_download",
        "hf_transfer",
        "hf_" + "a" * 20,
        "my_hf_" + "a" * 40,
        "hf_oauth_callback_url",
    ],
)
def test_what_only_begins_like_a_token_stays(word: str) -> None:
    """These are names in programs, and stand in their tracebacks."""
    assert make_redactor().redact(f"in {word}()") == f"in {word}()"


@given(
    before=st.integers(0, 40_000),
    between=st.integers(0, 400_000),
    after=st.integers(0, 40_000),
)
@settings(max_examples=40)
@example(before=MAX_LINE_CHARS // 2 - 3, between=300_000, after=MAX_LINE_CHARS // 2 - 3)
def test_a_secret_where_a_line_is_cut_is_not_kept_in_part(
    before: int, between: int, after: int
) -> None:
    """A line is searched before it is cut, and what is next to a cut that was made while it was
    read is never kept.
    """
    secret = "K3y!" * 500
    redactor = make_redactor(KEY=secret)
    line = "a" * before + secret + "." * between + secret + "z" * after
    stream = LogStreamParser(MAX_LINE_CHARS + 2 * redactor.max_secret_chars)
    buffer = LineBuffer(redactor)
    for read in stream.feed(f"data: {json.dumps({'data': line})}\n".encode()):
        buffer.add_line(read)

    (stored,) = buffer.take_chunk(is_last=True)

    half = MAX_LINE_CHARS // 2
    assert not set(re.sub(r"\[.*?\]", "", stored)) & set("K3y!")
    assert stored.startswith("a" * min(before, half))
    assert stored.endswith("z" * min(after, half))
    assert len(stored) < MAX_LINE_CHARS + 100


def test_a_part_of_a_secret_next_to_a_gap_is_not_kept() -> None:
    """Of a line that was cut while it was read, nobody knows what stood in the gap."""
    secret = "K3y!" * 500
    line = f"{'a' * 9000}{secret[:-1]}{GAP}{secret[1:]}{'z' * 9000}"

    (stored,) = make_redactor(KEY=secret).redact_lines([line])

    assert "K3y" not in stored
    assert (stored[0], stored[-1]) == ("a", "z")


@pytest.mark.parametrize(
    ("printed", "stored"),
    [
        ("30%\r60%\r90%", "90%"),
        (f"token {KEY.splitlines()[1]}\r", "token [redacted:KEY]"),
        (f"{KEY.splitlines()[1]}\rXX", "XXedacted:KEY]"),
        (f"....vQIBADANBgkqhkiG9w0BAQEFAASC\r{KEY.splitlines()[1][:4]}", "[redacted:KEY]"),
        (f"{'.' * 400_000}\r{KEY.splitlines()[1]} done", None),
    ],
)
def test_no_secret_shows_in_a_line_that_is_written_over(printed: str, stored: str | None) -> None:
    """Neither what is left of one under the last state, nor one that two states make up."""
    buffer = LineBuffer(make_redactor(KEY=KEY))
    buffer.add_line(printed)

    (line,) = buffer.take_chunk(is_last=True)

    assert stored in {line, None}
    assert not any(part in line for part in ("MIIE", "EvQIBAD", "kqhkiG9w0"))
